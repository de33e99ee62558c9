"""Which videos are found, in which order and under which names."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fantasytalking.data.preparation.folder_search import FolderSearch
from fantasytalking.data.preparation.video_sources import find_videos
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.system.digests import file_fingerprint


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def catalogue(folder: Path, *rows: dict[str, str]) -> None:
    usual = {"identity": "anna", "kind": "real", "split": "train"}
    (folder / "catalogue.jsonl").write_text("".join(json.dumps(usual | row) + "\n" for row in rows))


def test_folders_are_searched_to_the_bottom_for_videos(tmp_path: Path) -> None:
    touch(tmp_path, "b/deep/x.MKV", "a.mp4", "notes.txt", ".hidden.mp4")
    found = find_videos([tmp_path])
    assert [(v.video.key, v.name) for v in found] == [("a", "a.mp4"), ("b_deep_x", "b/deep/x.MKV")]
    described = found[1].video
    assert (described.identity, described.kind, described.split, described.terms) == ("x", "real", "train", "unknown")
    assert find_videos([tmp_path], identity="folder")[1].video.identity == "deep"


def test_a_catalogue_says_what_its_videos_are(tmp_path: Path) -> None:
    touch(tmp_path, "in/clips/a.mp4", "in/clips/b.mp4", "in/clips/c.mp4")
    rows = (
        {"file": "clips/a.mp4", "split": "val", "terms": "CC BY 4.0", "source": "x.org"},
        {"file": "clips/b.mp4", "split": "test"},
    )
    catalogue(tmp_path / "in", *rows)
    by_key = {v.video.key: v.video for v in find_videos([tmp_path])}
    # b is of another split, and c is in no row
    assert by_key.keys() == {"in_clips_a", "in_clips_c"}
    a = by_key["in_clips_a"]
    assert (a.identity, a.split, a.terms, a.source) == ("anna", "val", "CC BY 4.0", "x.org")
    assert by_key["in_clips_c"].identity == "c"
    alone = find_videos([tmp_path / "in" / "catalogue.jsonl"])
    assert [v.video.key for v in alone] == ["clips_a"]


@pytest.mark.parametrize("file", ["/far/away/a.mp4", "../far/b.mp4", "clips/../../far/b.mp4"])
def test_a_catalogue_names_no_file_outside_of_its_folder(tmp_path: Path, file: str) -> None:
    touch(tmp_path, "far/b.mp4")
    (tmp_path / "here").mkdir()
    catalogue(tmp_path / "here", {"file": file})
    with pytest.raises(SettingsError) as error:
        find_videos([tmp_path / "here"])
    assert f"file must be a path below the folder of the catalogue, but '{file}' was given" in str(error.value)
    # the way out that the sentence names
    (tmp_path / "here" / "link.mp4").symlink_to(tmp_path / "far" / "b.mp4")
    catalogue(tmp_path / "here", {"file": "link.mp4"}, {"file": "gone.mp4"}, {"file": "sub/../also-gone.mp4"})
    found = find_videos([tmp_path / "here"])
    assert [(v.name, bool(v.fingerprint)) for v in found] == [
        ("also-gone.mp4", False),
        ("gone.mp4", False),
        ("link.mp4", True),
    ]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run the block as a user whom permissions bind, if the tests run as one whom they do not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_the_search_passes_over_is_counted_and_told() -> None:
    # not in the folder of the test, which is open to its owner alone
    with tempfile.TemporaryDirectory() as name:
        folder = touch(
            Path(name), "in/a.mp4", "in/.b.mp4", "in/.trash/c.mp4", "in/.trash/notes.txt", "locked/d.mp4", "far/e.mp4"
        )
        (folder / "in" / "dead.mp4").symlink_to(folder / "gone.mp4")
        (folder / "in" / "notes").symlink_to(folder / "in" / ".trash" / "notes.txt")
        (folder / "in" / "far").symlink_to(folder / "far")
        (folder / "locked").rename(folder / "in" / "locked")
        folder.chmod(0o755)
        (folder / "in" / "locked").chmod(0)
        search = FolderSearch()
        with as_nobody():
            found = find_videos([folder / "in"], search=search)
        assert [video.name for video in found] == ["a.mp4"]
        assert search.passed_over == {
            "hidden videos": 2,
            "linked folders": 1,
            "dead links": 1,
            "unreadable folders": 1,
        }
        told = list(search.sentences())
        assert told[0] == "Passed over: 2 x hidden video; give it by its own path to use it." and len(told) == 4
        # each way out that is named
        (folder / "in" / "locked").chmod(0o755)
        (folder / "gone.mp4").write_bytes(b"back")
        again = FolderSearch()
        places = [folder / "in", folder / "in" / ".b.mp4", folder / "in" / "far"]
        names = {video.name for video in find_videos(places, search=again)}
        assert names == {"a.mp4", ".b.mp4", "e.mp4", "locked/d.mp4", "dead.mp4"}
        assert again.passed_over == {"hidden videos": 2, "linked folders": 1}
    with pytest.raises(InputError, match="There is no video, folder"):
        find_videos([folder])


def test_a_folder_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    touch(tmp_path, ".a.mp4")
    with pytest.raises(InputError, match=r"There is no video in .* Passed over: 1 x hidden video; give it by its own"):
        find_videos([tmp_path])


def test_the_seed_chooses_other_people_for_validation(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(40)))
    chosen = [
        tuple(v.name for v in find_videos([tmp_path], "stem", 0.3, seed) if v.video.split == "val")
        for seed in (0, 1, 1, 2)
    ]
    assert chosen[1] == chosen[2] and len(set(chosen)) == 3 and all(4 <= len(names) <= 20 for names in chosen)


def test_a_file_is_listed_once_however_often_it_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    catalogue(tmp_path, {"file": "a.mp4"})
    found = find_videos([tmp_path / "a.mp4", tmp_path, tmp_path / "catalogue.jsonl"])
    assert [v.video.identity for v in found] == ["anna"]


def test_keys_are_unique_also_without_capitals_and_fit_a_tar_header(tmp_path: Path) -> None:
    touch(tmp_path, "a b.mp4", "a_b.mp4", "A_B.mkv", f"{'long' * 30}.mp4", "?.mp4")
    keys = [v.video.key for v in find_videos([tmp_path])]
    assert len({key.lower() for key in keys}) == 5 and keys == sorted(keys)
    assert all(len(f"{key}-0000.safetensors") < 100 and "." not in key for key in keys)
    # another video changes no key
    touch(tmp_path, "later.mp4")
    assert set(keys) < {v.video.key for v in find_videos([tmp_path])}


def test_people_without_a_row_are_split_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p{i}/{j}.mp4" for i in range(40) for j in range(2)))
    found = find_videos([tmp_path], identity="folder", val_share=0.3)
    splits: dict[str, set[str]] = {}
    for item in found:
        splits.setdefault(item.video.identity, set()).add(item.video.split)
    assert all(len(own) == 1 for own in splits.values())
    assert 4 <= sum("val" in own for own in splits.values()) <= 20
    # the same whatever else is there
    fewer = find_videos([tmp_path / "p7"], identity="folder", val_share=0.3)
    assert {item.video.split for item in fewer} == splits["p7"]


def test_a_replaced_file_has_another_file_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a" * 200_000)
    before = file_fingerprint(path)
    path.write_bytes(b"a" * 199_999 + b"b")
    assert file_fingerprint(path) != before != ""
    assert file_fingerprint(tmp_path / "gone") == ""


def test_nothing_to_prepare_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no video, folder or catalogue"):
        find_videos([tmp_path / "gone"])
    with pytest.raises(InputError, match="There is no video in"):
        find_videos([tmp_path])


def test_an_unknown_kind_is_refused_as_training_refuses_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    catalogue(tmp_path, {"file": "a.mp4", "kind": "Real"})
    with pytest.raises(
        SettingsError, match=r"Line 1 of .*: kind must be real or generated, but 'Real' was given; did you"
    ):
        find_videos([tmp_path])
