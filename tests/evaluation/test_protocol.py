"""A protocol is complete, strict, and tells in what two reports differ."""

import json
from pathlib import Path

import pytest

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.evaluation.protocol import PROTOCOLS, Protocol, differences, load_protocol, software_versions
from fantasytalking.system.records import describe


def report(protocol: Protocol, **column: object) -> dict[str, object]:
    columns = [{"key": "fid", "label": "FID", "stands_for": "FID", "weights": {"inception": "a" * 64}} | column]
    return {"protocol": protocol.to_dict(), "columns": columns, "software": {"torch": "1"}}


def test_every_field_that_moves_a_number_is_stored() -> None:
    wanted = {
        "fps",
        "longest_side",
        "resize_filter",
        "min_track",
        "max_seconds",
        "image_stride",
        "video_frames",
        "video_stride",
        "seed",
    }
    assert wanted <= set(Protocol().to_dict())
    assert all(field.help for field in describe(Protocol))


def test_summarising_fields_do_not_make_measurements_again() -> None:
    assert Protocol().measuring == Protocol(resamples=20, confidence=0.9, name="x").measuring
    assert Protocol().measuring != Protocol(fps=24).measuring


@pytest.mark.parametrize(
    "change", [{"fps": 0}, {"longest_side": 10.5}, {"resize_filter": "magic"}, {"min_track": True}]
)
def test_a_bad_value_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="must be"):
        Protocol(**change)  # type: ignore[arg-type]


def test_a_protocol_comes_by_name_from_a_file_or_from_a_report(tmp_path: Path) -> None:
    assert load_protocol("small") == PROTOCOLS["small"]
    (tmp_path / "p.json").write_text(json.dumps({"fps": 30}))
    assert load_protocol(str(tmp_path / "p.json")) == Protocol(fps=30)
    (tmp_path / "report.json").write_text(json.dumps(report(Protocol(fps=24))))
    assert load_protocol(str(tmp_path)) == Protocol(fps=24)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match="list"):
        load_protocol(str(tmp_path / "bad.json"))
    (tmp_path / "unknown.json").write_text('{"speed": 1}')
    with pytest.raises(SettingsError, match=r"unknown.json': There is no field 'speed'; did you mean"):
        load_protocol(str(tmp_path / "unknown.json"))
    with pytest.raises(InputError, match="no protocol 'smal'"):
        load_protocol("smal")


def test_reports_of_one_protocol_may_share_a_table() -> None:
    assert differences(report(Protocol()), report(Protocol(name="other name"))) == []


def test_each_difference_is_told() -> None:
    first = report(Protocol())
    assert any("fps is 25.0 in one and 23.0" in d for d in differences(first, report(Protocol(fps=23))))
    assert any("FD-mobilenet" in d for d in differences(first, report(Protocol(), label="FD-mobilenet")))
    assert any("other weights" in d for d in differences(first, report(Protocol(), weights={"inception": "b" * 64})))
    assert any("torch" in d for d in differences(first, report(Protocol()) | {"software": {"torch": "2"}}))


def test_the_versions_of_what_measures_are_recorded() -> None:
    assert {"python", "torch", "numpy", "av"} <= set(software_versions())
