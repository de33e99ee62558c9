"""A manifest may be written by anybody: whatever it holds, `verify` tells it as it is, on lines of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest

from fantasytalking import Verification, verify
from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import GENERATED, Marks
from fantasytalking.provenance.offline_c2pa import offline_context
from fantasytalking.provenance.signed_manifest import GENERATION
from fantasytalking.provenance.signing_identity import signing_identity
from tests.pipeline.tiny_pipeline import portrait

FRAMES = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]
CREATED = c2pa.C2paBuilderIntent.CREATE
FORGED = "\x1b[2J\nwatermark:  found\u202e"


@pytest.fixture(scope="module")
def watermarked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with the watermark alone, for other manifests."""
    marks = Marks(manifest=False, identifier=7)
    return write_video(tmp_path_factory.mktemp("marked") / "video.mp4", FRAMES, 25, marks=marks)


def signed(source: Path, target: Path, *assertions: Any, kind: Any = None, **spec: Any) -> Path:
    """The video with a manifest that says what it should not."""
    tool = [{"name": "Other", "version": "1"}]
    spec = {"claim_generator_info": tool, "title": "x", "format": "video/mp4", "assertions": list(assertions)} | spec
    builder = c2pa.Builder(spec, context=offline_context())
    builder.set_intent(CREATED, kind or c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA)
    with source.open("rb") as file, target.open("w+b") as goal, signing_identity().signer() as signer:
        builder.sign(signer, "video/mp4", file, goal)
    return target


def generation(data: object) -> dict[str, object]:
    return {"label": GENERATION, "data": data}


@pytest.mark.parametrize(
    "assertion",
    [
        generation("text"),
        generation([1, 2]),
        generation({"identifier": 5, "model": {"a": 1}, "settings_sha256": None}),
        generation({"identifier": FORGED, "model": ["a"], "settings_sha256": "x" * 64}),
        {"label": "c2pa.hash.bmff.other", "data": "text"},
        {"label": "c2pa.hash.bmff.other", "data": {"exclusions": [{"path": 1}]}},
    ],
    ids=["text", "list", "types", "no numbers", "text for a hash", "no path"],
)
def test_values_of_no_form_count_as_not_said(assertion: dict[str, object], watermarked: Path, tmp_path: Path) -> None:
    found = verify(signed(watermarked, tmp_path / "odd.mp4", assertion))
    assert (found.manifest.state, found.manifest.covers, found.agree) == ("valid", "all", None)
    assert (found.manifest.identifier, found.manifest.model, found.manifest.settings_sha256) == (None, "", "")
    # as a service sends it
    assert Verification.from_summary(json.loads(json.dumps(found.summary()))) == found


def test_texts_stay_on_their_line_and_short(
    watermarked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = [{"name": FORGED, "version": "1"}]
    named = generation({"model": "a" * 100_000})
    main(["verify", str(signed(watermarked, tmp_path / "odd.mp4", named, claim_generator_info=tool))])
    told = capsys.readouterr().out
    assert [line.partition(":")[0] for line in told.splitlines()] == ["manifest", "watermark", "metadata"]
    assert "\x1b" not in told and "\u202e" not in told and len(told) < 1000


def test_a_manifest_that_says_nothing_of_a_model_is_no_mark_of_one(
    watermarked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filmed = signed(watermarked, tmp_path / "filmed.mp4", kind=c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
    found = verify(filmed)
    assert (found.manifest.state, found.watermark.found, found.is_marked) == ("valid", True, False)
    assert main(["verify", str(filmed)]) == 1
    assert "does not say that a model had a part" in capsys.readouterr().out


def test_the_type_that_names_a_model_counts_among_several(watermarked: Path, tmp_path: Path) -> None:
    edited = {"action": "c2pa.edited", "digitalSourceType": GENERATED}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [edited]}}
    filmed = c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
    assert verify(signed(watermarked, tmp_path / "edited.mp4", actions, kind=filmed)).manifest.source_type == GENERATED
