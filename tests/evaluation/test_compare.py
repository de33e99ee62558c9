"""Reports of different protocols are not put into one table without a warning."""

import dataclasses

import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.compare import join_reports
from fantasytalking.evaluation.report.write_report import table_text
from fantasytalking.evaluation.results import Report
from tests.evaluation.report.test_write_report import sample


def renamed(report: Report, name: str, **changes: object) -> Report:
    methods = tuple(dataclasses.replace(m, name=name) if m.name == "ours" else m for m in report.methods)
    return dataclasses.replace(report, methods=methods, **changes)  # type: ignore[arg-type]


def test_reports_of_one_protocol_share_their_ground_truth_and_are_compared_clip_by_clip() -> None:
    first, second = sample(), renamed(sample(), "theirs")
    joint = join_reports([first, second], ["one", "two"])
    assert [m.name for m in joint.methods] == [*(m.name for m in first.methods), "theirs"]
    assert not any("protocol" in w for w in joint.warnings)
    pair = next(c for c in joint.comparisons if {c.first, c.second} == {"ours", "theirs"} and c.column == "csim")
    assert pair.difference == 0 and pair.clips == 5 and pair.p == 1
    assert not any({c.first, c.second} == {"ours", "theirs"} and c.column == "fid" for c in joint.comparisons)


def test_each_difference_of_the_protocols_is_a_warning() -> None:
    first = sample()
    second = renamed(sample(), "theirs", protocol={**first.protocol, "fps": 23.0}, software={"torch": "1.0"})
    warnings = join_reports([first, second], ["one", "two"]).warnings
    assert any("one and two" in w and "fps is 25.0 in one and 23.0" in w for w in warnings)
    assert any("torch" in w for w in warnings)


def test_rows_of_one_name_and_other_numbers_are_told_apart() -> None:
    first, second = sample(), sample()
    changed = dataclasses.replace(
        second.methods[2],
        summary={
            **second.methods[2].summary,
            "csim": dataclasses.replace(second.methods[2].summary["csim"], value=0.1),
        },
    )
    second = dataclasses.replace(second, methods=(*second.methods[:2], changed, *second.methods[3:]))
    names = [m.name for m in join_reports([first, second], ["one", "two"]).methods]
    assert names == [*(m.name for m in first.methods), "ours (two)"]


def test_columns_that_one_report_lacks_or_calls_otherwise_are_left_out() -> None:
    first = sample()
    other = dataclasses.replace(
        first, columns=tuple(dataclasses.replace(c, label="FID") if c.key == "fid" else c for c in first.columns)
    )
    assert [c.key for c in join_reports([first, other], ["a", "b"]).columns] == ["csim", "sd"]
    with pytest.raises(InputError, match="no column in common"):
        join_reports([first, dataclasses.replace(first, columns=())], ["a", "b"])
    with pytest.raises(InputError, match="two reports"):
        join_reports([first], ["a"])


def test_rows_over_different_frames_have_no_best_and_a_warning() -> None:
    first, second = sample(), renamed(sample(), "theirs")
    assert "**" in table_text(join_reports([first, second], ["one", "two"])).replace("**Best**", "")
    cut = {
        m.name: dataclasses.replace(m, clips={n: dataclasses.replace(c, frames=20) for n, c in m.clips.items()})
        for m in second.methods
    }
    fewer = {
        m.name: dataclasses.replace(m, clips={n: c for n, c in m.clips.items() if n != "b"}) for m in second.methods
    }
    for changed, extent in ((cut, "two: 5 clips, 4.0 s"), (fewer, "two: 4 clips, 8.0 s")):
        joint = join_reports([first, dataclasses.replace(second, methods=tuple(changed.values()))], ["one", "two"])
        assert joint.common is not None and not joint.common.same
        (warning,) = [w for w in joint.warnings if "different frames" in w]
        assert f"one: 5 clips, 10.0 s; {extent}" in warning and "evaluate all methods in one command" in warning
        assert "**" not in table_text(joint).replace("**Best**", "")
        pairs = [c for c in joint.comparisons if {c.first, c.second} == {"ours", "theirs"}]
        assert [c.clips for c in pairs] == ([] if changed is cut else [4, 4]), "only clips with the same frames"


def test_real_clips_of_one_name_and_other_content_are_different_frames() -> None:
    first, second = sample(), renamed(sample(), "theirs")
    truth = second.methods[0]
    other = {**truth.summary, "sd": dataclasses.replace(truth.summary["sd"], value=9.0)}
    second = dataclasses.replace(second, methods=(dataclasses.replace(truth, summary=other), *second.methods[1:]))
    joint = join_reports([first, second], ["one", "two"])
    assert joint.common is not None and not joint.common.same
