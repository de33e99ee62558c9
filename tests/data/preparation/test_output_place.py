"""A set is written outside of what is searched, of other sets and of training runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fantasytalking.data.preparation.output_place import check_place
from fantasytalking.errors import OutputError


def test_a_set_in_a_folder_that_is_searched_is_refused(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (tmp_path / "link").symlink_to(videos)
    for output in (videos, videos / "sets" / "first", tmp_path / "link" / "set"):
        with pytest.raises(
            OutputError, match=r"lies in '.*videos', which is searched for videos; choose an --output outside"
        ):
            check_place(output, [videos])
    # beside it, or where single files are given
    check_place(tmp_path / "set", [videos])
    check_place(videos / "set", [videos / "a.mp4"])


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"manifest.json": '{"schema": 1}'}, "another prepared set"),
        ({"work/run.json": '{"schema": 1}'}, "another prepared set"),
        ({"config.json": "{}", "log.jsonl": ""}, "the folder of a training run"),
    ],
)
def test_a_set_in_a_set_or_a_run_is_refused(tmp_path: Path, files: dict[str, str], what: str) -> None:
    for name, content in files.items():
        (tmp_path / "owner" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "owner" / name).write_text(content)
    for output in (tmp_path / "owner" / "set", tmp_path / "owner" / "a" / "b"):
        with pytest.raises(OutputError, match=f"lies in {what} .*owner.*; choose an --output outside of it"):
            check_place(output, [])
    # the set itself may be prepared again
    check_place(tmp_path / "owner", [])
    check_place(tmp_path / "beside", [])
