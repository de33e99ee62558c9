"""Manifests: what is read, what is refused by name, which ship."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import (
    Case,
    Manifest,
    MethodSpec,
    Order,
    Picture,
    Same,
    Window,
    save_manifest,
)
from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest, read_manifest, shipped_names
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.pipeline.settings import GenerationSettings

SHIPPED = ("authors", "identity", "intensity", "stages", "training", "validation", "validation-tame", "validation-wild")


def example() -> Manifest:
    window = Window("clips/a.mp4", "a" * 64, 1.5, 3.0)
    cases = (
        Case("a", "anna", window, None, None, "", {"seed": 1}),
        Case("b", "ben", window, Picture("b.png", "b" * 64), Window("b.wav", "c" * 64, 0.0, 2.0), "a man", {}),
    )
    methods = (
        MethodSpec("one", "embedded", {"w_face": 1.0}, "own", "first"),
        MethodSpec("two", "$OTHER", {}, "other", ""),
    )
    expectations = (
        Order("one moves more", "sd", "one", "two"),
        Same("alike", "idc", ("one", "two"), 0.1),
        Same("alike in share", "idc", ("one", "two"), "2.5 %"),
    )
    return Manifest("tried", "what it is", "free", cases, methods, expectations)


def test_a_manifest_survives_being_written_and_read(tmp_path: Path) -> None:
    path = save_manifest(example(), tmp_path / "tried.json")
    assert load_manifest(str(path)) == example()


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    raw = copy.deepcopy(example().to_dict())
    change(raw)
    return raw


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (lambda raw: raw.update(case=[]), r"no key 'case'; did you mean 'cases'"),
    "missing key": (lambda raw: raw.pop("terms"), r"terms is missing \(text\)"),
    "both": (
        lambda raw: raw["cases"][0].update(promt=raw["cases"][0].pop("prompt")),
        r"no key 'cases\[0\].promt'; did you mean 'prompt'",
    ),
    "schema": (lambda raw: raw.update(schema=2), r"schema 2, and this version reads 1"),
    "a list": (lambda raw: raw.update(cases={}), r"cases must be a list"),
    "window's key": (
        lambda raw: raw["cases"][1]["audio"].pop("start"),
        r"cases\[1\].audio.start is missing \(a number from 0 to",
    ),
    "digest": (lambda raw: raw["cases"][0]["reference"].update(sha256="A" * 64), r"sha256 must be 64 lower-case"),
    "escape": (lambda raw: raw["cases"][0]["reference"].update(file="../a.mp4"), r"within the data folder"),
    "absolute": (lambda raw: raw["cases"][1]["portrait"].update(file="/etc/passwd"), r"within the data folder"),
    "too short": (
        lambda raw: raw["cases"][0]["reference"].update(seconds=0.1),
        r"seconds must be a number from 0.2 to 86400",
    ),
    "not a number": (lambda raw: raw["cases"][0]["reference"].update(seconds=True), r"seconds must be a number"),
    "name": (lambda raw: raw["cases"][0].update(name="a/b"), r"it names files"),
    "twice": (lambda raw: raw["cases"][1].update(name="A"), r"It has the case .* more than once"),
    "setting": (
        lambda raw: raw["cases"][0]["settings"].update(sed=3),
        r"cases\[0\].settings: There is no setting 'sed'; did",
    ),
    "value": (lambda raw: raw["methods"][0]["settings"].update(w_face=3), r"w_face must be a number from 0 to 1"),
    "prompt twice": (lambda raw: raw["cases"][0]["settings"].update(prompt="x"), r"must not hold a prompt"),
    "speech": (lambda raw: raw["methods"][0].update(speech="mine"), r"must be own or other"),
    "placeholder": (lambda raw: raw["methods"][0].update(model="$other"), r"\$ and capitals"),
    "no case": (lambda raw: raw.update(cases=[]), r"It has no case"),
    "expectation": (
        lambda raw: raw["expectations"][0].update(higher="three"),
        r"of the method 'three', which it does not have; the methods are one, two",
    ),
    "expectation's key": (
        lambda raw: raw["expectations"][0].update(with_in=1),
        r"no key 'expectations\[0\].with_in'; the keys are claim",
    ),
    "allowed": (lambda raw: raw["expectations"][1].update(within=0), r"within must be a number above 0 or a share"),
    "share": (
        lambda raw: raw["expectations"][1].update(within="0 %"),
        r"or a share such as '5 %', but '0 %' was given",
    ),
    "source": (
        lambda raw: raw.update(sources={"x.mp4": "https://a.org/x.mp4"}),
        r"source of the file 'x.mp4', which no",
    ),
    "pair": (lambda raw: raw["expectations"][1].update(same=["one"]), r"must name two methods"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str) -> None:
    change, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(changed(change), "The manifest 'tried'")
    assert str(caught.value).startswith("The manifest 'tried'") and str(caught.value)[-1] in ".?"


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_manifest(str(tmp_path / "bad.json"))


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'validation-tame'"):
        load_manifest("validation-tam")


def test_the_shipped_manifests() -> None:
    assert shipped_names() == SHIPPED
    for name in SHIPPED:
        found = load_manifest(name)
        assert found.name == name and "not part of the project" in found.description
        assert not any(Path(file).is_absolute() for case in found.cases for file in case.inputs)
        usual = {"seed": 0} if name == "authors" else {"longest_side": 256, "seed": 0}
        assert all(case.settings == usual for case in found.cases)


def test_the_authors_videos_are_listed_with_hash_and_address_and_compared_with_their_own() -> None:
    found = load_manifest("authors")
    files = [case.reference.file for case in found.cases]
    assert len(files) == 12 and sorted(found.sources) == sorted(files)
    for case in found.cases:
        number = str(int(Path(case.reference.file).stem))
        assert found.sources[case.reference.file].startswith("https://raw.githubusercontent.com/Fantasy-AMAP/")
        assert found.sources[case.reference.file].endswith(f"/assets/{number}.mp4")
        assert (case.portrait, case.audio, case.prompt) == (None, None, "")
        # 81 frames at 23 a second, the most that the released model makes
        assert case.reference.seconds <= 81 / 23
    released = GenerationSettings.create(found.methods[0].settings)
    usual = GenerationSettings(longest_side=512, fps=23.0, face_check="warn")
    assert released == usual, "the released settings are the defaults"
    assert all(isinstance(e, Same) and e.same == ("released", GROUND_TRUTH) for e in found.expectations)
    assert len(found.resolved(models={"MODEL": "embedded"}).expectations) == len(found.expectations)


def test_the_clip_whose_picture_is_frozen_is_in_no_shipped_manifest() -> None:
    for name in SHIPPED:
        files = [file for case in load_manifest(name).cases for file in case.inputs]
        assert not [file for file in files if "r0083" in file], name


def test_tame_and_wild_are_the_validation_split() -> None:
    tame, wild, both = (
        {case.name: case.reference for case in load_manifest(n).cases}
        for n in ("validation-tame", "validation-wild", "validation")
    )
    assert len(both) == 17 and both == tame | wild and not tame.keys() & wild.keys()
    # A tenth of a second in at most, where a real clip's lips lag behind its sound as published.
    assert all(window.start <= 0.12 and window.start + window.seconds <= 10 for window in both.values())


def test_cases_that_put_a_clip_in_step_take_its_own_sound_at_another_time() -> None:
    moved = {case.name: case for case in load_manifest("validation").cases if case.audio is not None}
    assert {name: round(25 * (c.reference.start - c.audio.start)) for name, c in moved.items() if c.audio} == {
        **{"r0091": 2, "r0374": -5, "r0375": -2, "r0380": 3, "r0400": -2, "r0404": -1}
    }
    assert all(
        c.audio and c.audio.file == c.reference.file and c.audio.seconds == c.reference.seconds for c in moved.values()
    )


def test_the_paper_experiments_say_what_they_expect() -> None:
    columns = {
        name: {e.column for e in load_manifest(name).expectations}
        for name in ("intensity", "stages", "identity", "training")
    }
    assert columns == {
        "intensity": {"sd", "sync_c", "sync_d"},
        "stages": {"sd", "sync_c", "sync_d", "mouth"},
        "identity": {"idc", "csim", "sd", "sync_c"},
        "training": {"sync_c", "mouth", "csim"},
    }
    assert json.loads(json.dumps(load_manifest("intensity").to_dict()))["methods"][0]["settings"] == {
        "w_face": 0.1,
        "w_body": 0.1,
    }


def test_models_and_methods_are_chosen_for_a_run() -> None:
    chosen = example().resolved(models={"OTHER": "runs/other"})
    assert [m.model for m in chosen.methods] == ["embedded", "runs/other"]
    alone = example().resolved(["one"])
    assert [m.name for m in alone.methods] == ["one"] and alone.expectations == ()
    with pytest.raises(InputError, match="pass --models OTHER=FOLDER"):
        example().resolved()
    with pytest.raises(InputError, match="has no placeholder \\$THIRD; it needs OTHER"):
        example().resolved(models={"THIRD": "x"})
    with pytest.raises(InputError, match="has no method 'three'; the methods are one, two"):
        example().resolved(["three"])
