"""Files are checked by hash, donors are other people, stretches have their exact length, references are unchanged where they can be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Window
from fantasytalking.evaluation.benchmark.case_inputs import (
    bad_files,
    choose_donors,
    cut_sound,
    portrait_of,
    unusable,
    write_reference,
)
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.system.json import read_json_object
from tests.evaluation.benchmark.samples import case, talking_video


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    talking_video(folder / "clips" / "a.mp4", 2.0)
    talking_video(folder / "clips" / "b.mp4", 1.0, 300)
    return folder


def speaker(name: str, identity: str, seconds: float) -> Case:
    return Case(name, identity, Window(f"{name}.mp4", "0" * 64, 0.0, seconds), None, None, "", {})


def test_good_files_are_good_and_a_changed_or_missing_one_is_named(data: Path) -> None:
    good = case(data, "clips/a.mp4", 1.0)
    missing = dataclasses.replace(good, name="m", reference=dataclasses.replace(good.reference, file="clips/m.mp4"))
    other = dataclasses.replace(good, name="o", audio=Window("clips/b.mp4", "1" * 64, 0.0, 1.0))
    bad = bad_files([good, missing, other], data)
    assert sorted(bad) == ["clips/b.mp4", "clips/m.mp4"]
    assert "is not the one that the manifest lists" in bad["clips/b.mp4"] and "There is no file" in bad["clips/m.mp4"]
    assert sorted(unusable([good, missing, other], bad)) == ["m", "o"]


def test_a_donor_is_another_identity_and_never_shorter() -> None:
    cases = [speaker("a", "anna", 3), speaker("b", "anna", 5), speaker("c", "cleo", 5), speaker("d", "dora", 2)]
    found = choose_donors(cases)
    assert sorted(found) == ["a", "b", "c", "d"]
    for one in cases:
        donor = found[one.name]
        assert donor.identity != one.identity and donor.speech.seconds >= one.speech.seconds
    assert choose_donors(cases) == found


def test_a_case_without_a_possible_donor_has_none() -> None:
    assert sorted(choose_donors([speaker("a", "anna", 3), speaker("b", "ben", 2)])) == ["b"]
    assert choose_donors([speaker("a", "anna", 3), speaker("b", "anna", 3)]) == {}


def test_sound_has_its_exact_length_and_place(data: Path) -> None:
    window = Window("clips/a.mp4", "0" * 64, 0.5, 1.0)
    whole, part = cut_sound(Window("clips/a.mp4", "0" * 64, 0.0, 2.0), data), cut_sound(window, data)
    assert len(part.samples) == 48000 and len(cut_sound(window, data, 0.25).samples) == 12000
    assert np.allclose(part.samples, whole.samples[24000:72000], atol=1e-4)
    beyond = cut_sound(Window("clips/b.mp4", "0" * 64, 0.5, 1.0), data).samples
    assert len(beyond) == 48000 and np.abs(beyond[26000:]).max() == 0


def test_the_portrait_is_the_first_frame_of_the_window(data: Path) -> None:
    frames, _ = read_frames(data / "clips" / "a.mp4")
    shown = portrait_of(case(data, "clips/a.mp4", 1.0, start=0.4), data)
    assert np.array_equal(np.asarray(shown), frames[10])


def test_a_reference_from_the_beginning_is_the_file_itself(data: Path, tmp_path: Path) -> None:
    source = data / "clips" / "a.mp4"
    for seconds, looked_at in ((2.0, 20.0), (1.0, 1.0)):
        assert not write_reference(case(data, "clips/a.mp4", seconds), data, tmp_path, looked_at)
        assert (tmp_path / "a.mp4").read_bytes() == source.read_bytes()


def test_any_other_reference_is_cut_and_nearly_lossless(data: Path, tmp_path: Path) -> None:
    again = write_reference(case(data, "clips/a.mp4", 1.0, start=0.4), data, tmp_path, 20.0)
    assert again
    frames, rate = read_frames(tmp_path / "a.mp4")
    true, _ = read_frames(data / "clips" / "a.mp4", None, 25, 0.4)
    assert (rate, frames.shape) == (25, true.shape)
    assert np.abs(frames.astype(int) - true).mean() < 1.5
    assert probe_video(tmp_path / "a.mp4").has_audio
    # a window of the beginning that is shorter than what is looked at is cut as well
    assert write_reference(case(data, "clips/a.mp4", 1.0), data, tmp_path, 20.0)
    assert probe_video(tmp_path / "a.mp4").frames == 25


def test_a_reference_gets_the_speech_that_puts_it_in_step(data: Path, tmp_path: Path) -> None:
    late = case(data, "clips/a.mp4", 1.0)
    sound = dataclasses.replace(late.reference, start=0.25)  # the tone swells every half second
    assert write_reference(dataclasses.replace(late, audio=sound), data, tmp_path, 1.0)
    heard = load_audio(tmp_path / "a.mp4", 48000).samples
    wanted = cut_sound(sound, data).samples
    length = min(len(heard), len(wanted))
    assert np.corrcoef(heard[:length], wanted[:length])[0, 1] > 0.9


def test_a_current_reference_is_kept_and_a_damaged_one_made_again(data: Path, tmp_path: Path) -> None:
    wanted = case(data, "clips/a.mp4", 1.0, start=0.4)
    write_reference(wanted, data, tmp_path, 20.0)
    made, record = (tmp_path / "a.mp4").stat().st_mtime_ns, read_json_object(tmp_path / "a.json")
    write_reference(wanted, data, tmp_path, 20.0)
    assert (tmp_path / "a.mp4").stat().st_mtime_ns == made
    (tmp_path / "a.mp4").write_bytes(b"cut off")
    write_reference(wanted, data, tmp_path, 20.0)
    assert probe_video(tmp_path / "a.mp4").frames == 25 and read_json_object(tmp_path / "a.json") == record


def test_a_window_beyond_the_end_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 2.00 s, but 1 s from second 1.5 are asked for"):
        write_reference(case(data, "clips/a.mp4", 1.0, start=1.5), data, tmp_path, 20.0)
