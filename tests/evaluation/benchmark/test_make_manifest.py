"""A folder of videos becomes a manifest: by seed, one a person, and what cannot be used is skipped with the reason."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.evaluation.benchmark.case_inputs import bad_files
from fantasytalking.evaluation.benchmark.make_manifest import ChosenClips, ClipChoice, make_manifest
from fantasytalking.evaluation.benchmark.parse_manifest import read_manifest
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.benchmark.samples import talking_video
from tests.pipeline.tiny_pipeline import portrait, speech


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("anna/one.mp4", "anna/two words.mp4", "ben/one.mp4", "ben_2.mp4"):
        talking_video(folder / name, 1.6)
    face, grey = portrait(), np.full((192, 192, 3), 128, np.uint8)
    still = Audio(np.zeros(25600, np.float32), 16000)
    write_video(folder / "silent.mp4", [face] * 40, 25, still, preset="ultrafast")
    write_video(folder / "mute.mp4", [face] * 40, 25, None, preset="ultrafast")
    write_video(folder / "faceless.mp4", [grey] * 40, 25, speech(1.6), preset="ultrafast")
    # a face that goes away in the middle
    write_video(folder / "leaves.mp4", [face] * 18 + [grey] * 22, 25, speech(1.6), preset="ultrafast")
    # a picture that is held while the speech goes on
    moving = np.stack([np.roll(face, k % 3, axis=1) for k in range(10)])
    held = [*moving, *[moving[-1]] * 25, *moving[:5]]
    write_video(folder / "frozen.mp4", held, 25, speech(1.6), preset="ultrafast")
    talking_video(folder / "short.mp4", 0.6)
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not looked at")
    talking_video(folder / ".hidden" / "x.mp4", 1.6)
    return folder


def make(videos: Path, **choice: object) -> ChosenClips:
    return make_manifest([videos], "made", ClipChoice(seconds=1.2, **choice), Progress())  # type: ignore[arg-type]


def test_usable_videos_become_cases_and_the_others_are_skipped_with_the_reason(videos: Path) -> None:
    made = make(videos)
    assert made.data == videos
    assert [case.reference.file for case in made.manifest.cases] == [
        "anna/one.mp4",
        "anna/two words.mp4",
        "ben/one.mp4",
        "ben_2.mp4",
    ]
    assert [case.name for case in made.manifest.cases] == ["anna-one", "anna-two-words", "ben-one", "ben_2"]
    reasons = {
        "silent.mp4": "is silent",
        "mute.mp4": "no sound",
        "faceless.mp4": "no face",
        "leaves.mp4": "no face",
        "frozen.mp4": "Its picture is frozen for",
        "short.mp4": "lasts 0.60 s, and 1.2 s are wanted",
        "broken.mp4": "not a readable media file",
    }
    assert made.skipped.keys() == reasons.keys()
    assert all(words in made.skipped[file] for file, words in reasons.items())


def test_a_name_that_a_manifest_cannot_hold_is_skipped_with_the_reason(videos: Path, tmp_path: Path) -> None:
    for name in (b"caf\xe9.mp4", b"back\\slash.mp4", b"fine.mp4"):
        shutil.copy(os.fsencode(videos / "ben_2.mp4"), os.fsencode(tmp_path) + b"/" + name)
    made = make(tmp_path)
    assert [case.reference.file for case in made.manifest.cases] == ["fine.mp4"]
    assert sorted(why.split(", but")[0] for why in made.skipped.values()) == [
        "Its name must be a name in UTF-8",
        "Its name must be a path within the data folder, with '/'",
    ]
    assert all(why.endswith("Rename it.") for why in made.skipped.values())
    assert read_manifest(made.manifest.to_dict(), "it") == made.manifest


def test_what_is_made_can_be_read_and_fits_its_files(videos: Path) -> None:
    made = make(videos, fps=23.0, seed=3)
    assert read_manifest(made.manifest.to_dict(), "it") == made.manifest
    assert bad_files(made.manifest.cases, made.data) == {}
    for case in made.manifest.cases:
        assert case.settings == {"seed": 3, "fps": 23.0} and 0 <= case.reference.start <= 0.4001
    assert [m.name for m in made.manifest.methods] == ["embedded-own-speech", "embedded-other-speech"]


def test_the_choice_is_a_function_of_the_seed(videos: Path) -> None:
    chosen = [
        [(c.name, c.reference.start) for c in make(videos, clips=2, seed=seed).manifest.cases] for seed in range(6)
    ]
    assert all(len(cases) == 2 for cases in chosen)
    assert len({tuple(cases) for cases in chosen}) > 1
    assert chosen[0] == [(c.name, c.reference.start) for c in make(videos, clips=2).manifest.cases]


@pytest.mark.parametrize(
    ("rule", "identities"), [("folder", {"anna", "ben", "."}), ("prefix", {"one", "two words", "ben"})]
)
def test_no_person_is_chosen_twice(videos: Path, rule: str, identities: set[str]) -> None:
    found = [case.identity for case in make(videos, one_per=rule).manifest.cases]
    assert sorted(found) == sorted(identities)


def test_one_person_alone_has_no_method_of_other_speech(videos: Path) -> None:
    made = make_manifest([videos / "ben_2.mp4"], "made", ClipChoice(seconds=1.0, model="$MODEL"), Progress())
    assert [(m.name, m.model) for m in made.manifest.methods] == [("model-own-speech", "$MODEL")]
    assert made.data == videos


def test_nothing_usable_is_an_error_that_says_why(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"None of 1 videos can be used \(silent.mp4: It is silent"):
        make_manifest([videos / "silent.mp4"], "made", ClipChoice(seconds=1.0), Progress())
    with pytest.raises(InputError, match="There is no video in"):
        make_manifest([tmp_path], "made", ClipChoice(), Progress())
    with pytest.raises(InputError, match="There is no video or folder"):
        make_manifest([tmp_path / "gone"], "made", ClipChoice(), Progress())
    with pytest.raises(SettingsError, match="--clips must be at least 1"):
        ClipChoice(clips=0)
