"""Files are paired by name, and everything left over is named."""

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.pairing import GROUND_TRUTH, find_videos, pair_clips, shuffled_sounds


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_names_without_suffix_pair_across_formats_and_folders(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.mp4", "s/b.mov", "c.mp4", "notes.txt", ".hidden.mp4")
    made = touch(tmp_path / "made", "a.webm", "s/b.mp4", "d.mp4")
    tasks, problems = pair_clips({"ours": made}, real)
    assert [(t.method, t.clip) for t in tasks] == [
        *((GROUND_TRUTH, name) for name in ("a", "c", "s/b")),
        *(("ours", name) for name in ("a", "s/b")),
    ]
    assert {(p.clip, p.method) for p in problems} == {("c", "ours"), ("d", "ours")}
    assert "no generated video" in next(p.reason for p in problems if p.clip == "c")


def test_names_that_differ_in_capitals_are_two_names_and_this_is_told(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "anna.mp4", "berta.mp4")
    made = touch(tmp_path / "made", "Anna.mp4", "berta.MP4")
    tasks, problems = pair_clips({"ours": made}, real)
    assert [t.clip for t in tasks if t.method == "ours"] == ["berta"]
    reasons = {p.clip: p.reason for p in problems}
    assert "the real clip 'anna' differs in capitals, give both one name" in reasons["Anna"]
    (made / "Anna.mp4").rename(made / "anna.mp4")
    assert pair_clips({"ours": made}, real)[1] == []


def test_folders_that_cannot_be_used_are_refused_with_a_way_out(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.mp4")
    with pytest.raises(InputError, match="does not exist"):
        find_videos(tmp_path / "nowhere", "generated")
    with pytest.raises(InputError, match="holds no video"):
        find_videos(touch(tmp_path / "texts", "a.txt"), "generated")
    with pytest.raises(InputError, match="two videos called 'a'"):
        find_videos(touch(tmp_path / "twice", "a.mp4", "a.mov"), "generated")
    with pytest.raises(InputError, match="paired by their names"):
        pair_clips({"ours": touch(tmp_path / "other", "b.mp4")}, real)
    with pytest.raises(InputError, match="row of its own"):
        pair_clips({GROUND_TRUTH: real}, real)


def test_every_clip_gets_another_ones_sound() -> None:
    rng = np.random.default_rng(0)
    sounds = {
        name: rng.standard_normal(n).astype(np.float32)
        for name, n in (("a", 3000), ("b", 9000), ("c", 3000), ("d", 5000))
    }
    given = shuffled_sounds(sounds)
    assert sorted(given) == sorted(given.values()) and all(k != v for k, v in given.items())
    assert given["a"] == "d" and given["d"] == "b"
    assert shuffled_sounds({"alone": sounds["a"]}) == {}


def test_a_clip_with_the_same_sound_under_another_face_is_passed_over() -> None:
    rng = np.random.default_rng(1)
    voice, other = (rng.standard_normal(4000).astype(np.float32) for _ in range(2))
    again = 0.8 * voice + 0.01 * rng.standard_normal(4000).astype(np.float32)
    given = shuffled_sounds({"face 1": voice, "face 2": again, "third": other})
    assert given == {"face 1": "third", "face 2": "third", "third": "face 2"}
    assert shuffled_sounds({"face 1": voice, "face 2": again}) == {}
