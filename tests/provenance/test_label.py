"""The visible label can be read on any picture, and is shown when it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.provenance.label import Label
from fantasytalking.provenance.marks import Marks


def luminance(colour: np.ndarray) -> float:
    """Relative luminance, WCAG 2.2."""
    share = np.asarray(colour, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_contrast_is_that_of_level_aaa(level: int) -> None:
    drawn = Label("AI-generated", True).draw(np.full((360, 640, 3), level, np.uint8), 0.0)
    area = drawn[9:30, 9:60].reshape(-1, 3)
    lights = [luminance(one) for one in area]
    assert (max(lights) + 0.05) / (min(lights) + 0.05) >= 7
    # ... and the plate differs from letters by as much as the letters' whole, on white too
    assert max(lights) > 0.9


def test_it_is_shown_at_the_start_and_each_minute_or_throughout() -> None:
    frame = np.full((120, 160, 3), 90, np.uint8)
    repeated, always = Label("KI", False), Label("KI", True)
    shown = {second: (repeated.draw(frame, second) != frame).any() for second in (0, 4.9, 5.1, 59.9, 60.0, 64, 66)}
    assert shown == {0: True, 4.9: True, 5.1: False, 59.9: False, 60.0: True, 64: True, 66: False}
    assert all((always.draw(frame, second) != frame).any() for second in (0, 30, 3599))


def test_it_grows_with_the_picture_and_fits_a_small_one() -> None:
    sizes = []
    for side in (256, 1024):
        frame = np.zeros((side, side, 3), np.uint8)
        rows = np.flatnonzero((Label("AI", True).draw(frame, 0) > 128).any((1, 2)))
        sizes.append(rows[-1] - rows[0])
    assert 3 < sizes[1] / sizes[0] < 5
    tiny = np.zeros((8, 8, 3), np.uint8)
    assert Label("AI-generated", True).draw(tiny, 0).shape == tiny.shape


def test_it_is_in_the_file_of_a_video_and_by_the_time_of_the_whole_one(tmp_path) -> None:
    frames = [np.full((96, 128, 3), 200, np.uint8)] * 6
    marks = Marks(manifest=False, watermark=False, label="repeated")
    write_video(tmp_path / "start.mp4", frames, 1, marks=marks)
    write_video(tmp_path / "part.mp4", frames, 1, marks=marks.of_part(57))
    dark = [
        [bool((frame < 100).any()) for frame in read_frames(tmp_path / name)[0]] for name in ("start.mp4", "part.mp4")
    ]
    assert dark == [[True] * 5 + [False], [False] * 3 + [True] * 3]


@pytest.mark.parametrize("text", ["", "  ", "KI\nerzeugt", "\u202eAI", "x" * 61, "人工智能生成", "🤖 AI", "בינה"])
def test_a_text_that_nobody_could_read_is_refused_before_anything_is_computed(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^label_text must be .* was given.*; give a word such as AI"):
        GenerationSettings(label="repeated", label_text=text)
    with pytest.raises(SettingsError):
        Label(text, True)
    assert GenerationSettings(label_text=text).label == "off"


@pytest.mark.parametrize(
    "text", ["Généré par IA", "Künstlich erzeugt", "Δημιουργήθηκε", "Създадено изкуствено", "żółć ę"]
)
def test_letters_of_europe_are_drawn(text: str) -> None:
    GenerationSettings(label="always", label_text=text)


@pytest.mark.parametrize("text", ["AI-generated video of a person who never said this", "W" * 60])
def test_a_long_text_is_seen_to_its_end(text: str) -> None:
    wide, narrow = (np.full((*size, 3), 90, np.uint8) for size in ((240, 2000), (600, 240)))
    one_line, several = (Label(text, True).draw(frame, 0.0) for frame in (wide, narrow))
    # the same letters: as much white, but for the spaces at the ends of lines
    whites = [float((drawn > 200).sum()) for drawn in (one_line, several)]
    assert whites[0] > 0 and abs(whites[1] / whites[0] - 1) < 0.02
    assert (several[:, -6:] == narrow[:, -6:]).all()
