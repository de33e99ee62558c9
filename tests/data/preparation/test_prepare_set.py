"""Videos to a prepared set: what is kept and dropped, resuming, and the same bytes however many workers there are and whichever die."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import webdataset
from safetensors.torch import save

from fantasytalking.data.latent_dataset import LatentDataset
from fantasytalking.data.preparation.phase_progress import PhaseCounts, PhaseProgress
from fantasytalking.data.preparation.prepare_set import prepare
from fantasytalking.data.preparation.shard_writer import writing_shard
from fantasytalking.data.preparation.work_folder import Plan
from fantasytalking.data.preparation.worker_tasks import MAX_CRASHES, MakeShardTask
from fantasytalking.data.prepared_set import PreparedSet, face_tracks, intensity
from fantasytalking.data.set_verification import files_sha256
from fantasytalking.errors import InputError, OutputError
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.json import read_json, read_json_lines, write_strict_json
from fantasytalking.training.embedded.training_tracks import set_material
from tests.data.preparation.toy import SETTINGS, checksums, make_videos, running
from tests.pipeline.tiny_pipeline import wan_pipeline
from tests.training.latent_set import made_up, write_set
from tests.training.synthetic import codec


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, talking: Path) -> Path:
    return make_videos(tmp_path_factory.mktemp("raw") / "videos", talking)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """The set of one undisturbed run without Ray; not to be changed."""
    folder = tmp_path_factory.mktemp("sets") / "finished"
    assert prepare([videos], folder, SETTINGS, running()) is not None
    return folder


def again(videos: Path, folder: Path) -> None:
    prepare([videos], folder, SETTINGS, running())


def test_good_clips_are_kept_and_bad_ones_have_a_reason(finished: Path) -> None:
    prepared = PreparedSet.open(finished)
    assert [row.key for row in prepared.clips("train")] == ["calm-0000", "deep_lively-0000"]
    assert prepared.clips("val") == []
    dropped = {row.file: (row.reason, row.detail) for row in prepared.rows if not row.kept}
    assert dropped.keys() == {"broken.mp4", "grey.mp4"}
    assert (
        dropped["broken.mp4"][0] == "unreadable"
        and "'broken.mp4' is not a readable media file" in dropped["broken.mp4"][1]
    )
    assert dropped["grey.mp4"][0] == "frozen"
    manifest = prepared.manifest
    assert manifest.totals["candidates"] == 4 and manifest.totals["kept"] == 2
    assert sum(manifest.dropped.values()) == 2
    assert {"faces", "speech", "scenes", "writing"} <= manifest.throughput.keys()
    assert all(entry["clips_per_second"] > 0 for entry in manifest.throughput.values() if entry["clips"])
    assert manifest.terms == {"unknown": 2}
    prepared.verify()


def test_the_model_that_training_asks_for_makes_the_set_that_it_takes(finished: Path, tmp_path: Path) -> None:
    latents = write_set(tmp_path / "set", wan_pipeline(), {"clip": made_up(9)})
    with pytest.raises(InputError, match="prepare the videos with --model embedded"):
        set_material(PreparedSet.open(latents), tmp_path)
    assert SETTINGS.model == "embedded"
    assert len(set_material(PreparedSet.open(finished), tmp_path, codec()).train) == 2
    with pytest.raises(InputError, match="prepare it with --model FOLDER of a pipeline with Wan's autoencoder"):
        LatentDataset(PreparedSet.open(finished))
    assert len(LatentDataset(PreparedSet.open(latents)).sizes) == 1


def test_a_sample_holds_what_training_needs(finished: Path) -> None:
    prepared = PreparedSet.open(finished)
    row = prepared.clips()[0]
    key = row.key
    stored = json.loads(prepared.bytes(key, "json"))
    assert stored == next(r for r in read_json_lines(finished / "clips.jsonl") if r["key"] == key)
    assert (row.seconds, row.shard, row.measures["face_width"]) == tuple(
        stored[name] for name in ("seconds", "shard", "face_width")
    )
    arrays = prepared.arrays(key)
    frames = row.frames
    assert frames is not None
    assert arrays["points"].shape == (frames, 468, 3) and arrays["points"].dtype == torch.float32
    assert arrays["scores"].shape == (frames,)
    assert arrays["speech"].dtype == torch.float16 and abs(len(arrays["speech"]) - 2 * frames) <= 1
    assert float(arrays["embedding"].norm()) == pytest.approx(1, abs=1e-4)
    assert prepared.arrays(key, ["motion"]).keys() == {"motion"}
    scale = intensity(prepared)
    raw = torch.stack([prepared.arrays(row.key)["motion"] for row in prepared.clips()])
    assert scale.percentiles.shape == (21, 2)
    assert torch.stack([scale.percentiles[0], scale.percentiles[-1]]).allclose(raw.sort(0).values)


def test_a_set_gives_face_tracks(finished: Path) -> None:
    tracks = face_tracks(PreparedSet.open(finished), "train")
    assert [t.info.file for t in tracks] == ["calm-0000.mp4", "deep_lively-0000.mp4"]
    assert tracks[0].info.identity == "calm" and tracks[0].speech.dtype == "float16"


def test_the_webdataset_library_reads_the_same_samples(finished: Path) -> None:
    prepared = PreparedSet.open(finished)
    stream = webdataset.WebDataset([str(path) for path in prepared.shards("train")], shardshuffle=False)
    samples = {sample["__key__"]: sample for sample in stream}
    assert samples.keys() == {row.key for row in prepared.clips("train")}
    for key, sample in samples.items():
        for ending in ("json", "mp4", "flac", "jpg", "safetensors"):
            assert sample[ending] == prepared.bytes(key, ending)


def test_the_report_shows_counts_measures_and_pictures(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "2 of 4 candidates from 4 videos were kept" in page
    for part in (
        'id="outcome"',
        'id="measures"',
        'id="kept"',
        'id="dropped"',
        'id="throughput"',
        'id="videos"',
        "<svg",
    ):
        assert part in page
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert {Path(name).name for name in shown} == {
        "kept-calm-0000.jpg",
        "kept-deep_lively-0000.jpg",
        "dropped-grey-0000.jpg",
    }
    assert all((finished / name).is_file() for name in shown)
    assert "http" not in page.replace("http-equiv", "")


def test_a_finished_set_is_left_alone(videos: Path, finished: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.parent.name != "work"
    }
    again(videos, finished)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_what_is_missing_or_damaged_is_made_again(tmp_path: Path, videos: Path, finished: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    tars = sorted((folder / "shards").iterdir())
    assert len(tars) == 2
    content = bytearray(tars[0].read_bytes())
    content[len(content) // 2] ^= 1
    tars[0].write_bytes(content)
    (folder / "shards" / f".{tars[1].stem}.0badcafe.part.tar").write_bytes(b"half")
    (folder / "work" / "spans" / "broken.json").unlink()
    (folder / "manifest.json").unlink()
    before = tars[1].stat().st_mtime_ns
    again(videos, folder)
    assert checksums(folder) == checksums(finished)
    assert tars[1].stat().st_mtime_ns == before


def test_the_work_folder_may_go_when_the_set_is_finished(tmp_path: Path, videos: Path, finished: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    shutil.rmtree(folder / "work")
    again(videos, folder)
    assert not (folder / "work").exists()
    with pytest.raises(OutputError, match="quality was 30 and is 31"):
        prepare([videos], folder, replace(SETTINGS, quality=31), running())


@pytest.mark.parametrize("part", ["a shard", "a shard without work", "the list", "a row of the list"])
def test_the_advice_to_a_damaged_set_repairs_it(
    tmp_path: Path, videos: Path, finished: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    if part == "a shard without work":
        shutil.rmtree(folder / "work")
    tar, clips = folder / "shards" / "train-000000.tar", folder / "clips.jsonl"
    if part.startswith("a shard"):
        content = bytearray(tar.read_bytes())
        content[len(content) // 2] ^= 1
        tar.write_bytes(content)
    else:
        lines = clips.read_text().splitlines(keepends=True)
        clips.write_text("".join(lines[1:]) if part == "a row of the list" else "no list")
    with pytest.raises(InputError, match="give the command that prepared the set again, which repairs it"):
        PreparedSet.open(folder).verify()
    again(videos, folder)
    assert "note: The set is repaired, as it is damaged" in capsys.readouterr().err or part == "a shard"
    PreparedSet.open(folder).verify()
    assert checksums(folder) == checksums(finished)


def test_another_plan_is_refused(videos: Path, finished: Path) -> None:
    for settings, changes, places, message in (
        (replace(SETTINGS, min_seconds=1.0), {}, [videos], "min_seconds was 2.0 and is 1.0"),
        (SETTINGS, {"clips_per_shard": 7}, [videos], "clips_per_shard was 1 and is 7"),
        (SETTINGS, {}, [videos / "calm.mp4"], "the video broken and 2 more is gone"),
        (SETTINGS, {"identity": "folder"}, [videos], "is not what it was"),
    ):
        with pytest.raises(OutputError, match=message):
            prepare(places, finished, settings, running(**changes))


class Telling(PhaseProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: dict[str, list[int]] = {}

    @contextmanager
    def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[PhaseCounts], None]]:
        done = self.phases[name] = [total]
        yield lambda counts: done.append(counts.done)

    def note(self, text: str) -> None:
        self.notes.append(text)


def changed_plan(folder: Path, change: Callable[[dict[str, Any]], None], work: bool = True) -> None:
    """Change the settings of a set's stored plan, as an older release would have written them, in all its records."""
    manifest = read_json(folder / "manifest.json")
    change(manifest["plan"]["settings"])
    if not work:
        shutil.rmtree(folder / "work")
    write_strict_json(folder / "manifest.json", manifest)
    if work:
        digest = Plan(*(manifest["plan"][name] for name in ("schema", "settings", "dealing", "videos"))).digest
        write_strict_json(folder / "work" / "run.json", manifest["plan"])
        for path in [*(folder / "work" / "spans").iterdir(), *(folder / "work" / "shards").iterdir()]:
            write_strict_json(path, {**read_json(path), "plan": digest})


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}


@pytest.mark.parametrize("work", [True, False])
def test_a_set_that_was_made_under_the_former_name_of_the_model_is_left_alone(
    tmp_path: Path, videos: Path, finished: Path, work: bool
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    changed_plan(folder, lambda settings: settings.update(model="demo"), work)
    before = stamps(folder)
    assert prepare([videos], folder, SETTINGS, running()) is not None
    with pytest.warns(FutureWarning, match="now called 'embedded'"):
        assert prepare([videos], folder, replace(SETTINGS, model="demo"), running()) is not None
    assert stamps(folder) == before


def test_a_set_that_was_begun_under_the_former_name_of_the_model_is_resumed(
    tmp_path: Path, videos: Path, finished: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    changed_plan(folder, lambda settings: settings.update(model="demo"))
    (folder / "manifest.json").unlink()
    before = stamps(folder)
    assert prepare([videos], folder, SETTINGS, running()) is not None
    assert stamps(folder) == before
    assert read_json(folder / "manifest.json")["plan"]["settings"]["model"] == "embedded"


def test_a_finished_set_of_an_older_release_is_left_alone_and_its_missing_rules_are_told(
    tmp_path: Path, videos: Path, finished: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    changed_plan(folder, lambda settings: settings.pop("max_frozen"))
    before, told = stamps(folder), Telling()
    assert prepare([videos], folder, SETTINGS, running(), told) is not None
    assert stamps(folder) == before
    assert told.notes == [
        "The set was made by an older release, which did not know max_frozen; pass --overwrite to make it again.",
        "The set was finished before and is whole, so nothing is made again.",
    ]
    # one that is not finished would mix clips of both
    (folder / "manifest.json").unlink()
    with pytest.raises(
        OutputError, match=r"begun differently: by an older release, which did not know max_frozen; .*--overwrite"
    ):
        prepare([videos], folder, SETTINGS, running())
    # the way out that both name
    again = Telling()
    assert prepare([videos], folder, SETTINGS, running(overwrite=True), again) is not None
    assert again.notes == [] and checksums(folder) == checksums(finished)


def test_writing_has_its_progress_and_what_was_passed_over_is_in_note_manifest_and_report(
    tmp_path: Path, talking: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "in" / "dead.mp4").symlink_to(tmp_path / "gone.mp4")
    shutil.copy(talking / "calm.mp4", tmp_path / "in" / "calm.mp4")
    told = Telling()
    assert prepare([tmp_path / "in"], tmp_path / "set", SETTINGS, running(), told) is not None
    assert told.phases["writing"] == [1, 1]
    assert told.notes == [
        "Passed over: 1 x hidden video; give it by its own path to use it.",
        "Passed over: 1 x link that leads nowhere; restore the file that it names to use it.",
    ]
    totals = read_json(tmp_path / "set" / "manifest.json")["totals"]
    assert totals["passed_over"] == {"hidden videos": 1, "dead links": 1}
    page = (tmp_path / "set" / "report.html").read_text()
    assert "What the search for videos passed over" in page and "hidden videos" in page


def test_a_set_in_the_folder_of_its_videos_is_refused_before_anything_is_written(videos: Path) -> None:
    with pytest.raises(OutputError, match="is searched for videos; choose an --output outside of it"):
        prepare([videos], videos / "set", SETTINGS, running())
    assert not (videos / "set").exists()


def test_overwrite_makes_a_set_anew_and_spares_what_is_no_set(tmp_path: Path, videos: Path, finished: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    assert prepare([videos / "broken.mp4"], folder, SETTINGS, running(overwrite=True)) is None
    assert list((folder / "shards").iterdir()) == []
    assert read_json(folder / "manifest.json")["dropped"] == {"unreadable": 1}
    with pytest.raises(InputError, match="no training clip"):
        intensity(PreparedSet.open(folder))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="something other than a prepared set"):
        prepare([videos], strange, SETTINGS, running(overwrite=True))
    assert (strange / "thesis.txt").read_text() == "mine"


def test_two_runs_at_once_are_refused(tmp_path: Path, videos: Path) -> None:
    folder = tmp_path / "set"

    class Second(PhaseProgress):
        @contextmanager
        def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[PhaseCounts], None]]:
            with pytest.raises(OutputError, match="Another process is preparing"):
                prepare([videos / "broken.mp4"], folder, SETTINGS, running())
            yield lambda counts: None

    prepare([videos / "broken.mp4"], folder, SETTINGS, running(), Second())


def test_a_clip_that_crashed_its_process_again_and_again_is_dropped(
    tmp_path: Path, videos: Path, finished: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    plan = read_json(folder / "work" / "shards" / "train-000000.json")["plan"]
    state = {"run": "this", "tries": {"calm-0000": MAX_CRASHES}}
    job = {"name": "train-000000", "split": "train", "spans": [span_of(videos / "calm.mp4")]}
    for run, kept in (("another", 1), ("this", 0)):
        write_strict_json(folder / "work" / "running" / "shard-train-000000.json", state)
        MakeShardTask(SETTINGS.as_dict(), str(folder), plan, run)(job)
        record = read_json(folder / "work" / "shards" / "train-000000.json")
        assert record["samples"] == kept
    assert record["rows"][0]["reason"] == "crashed"
    assert not (folder / "shards" / "train-000000.tar").exists()


def span_of(path: Path) -> dict[str, object]:
    video = {
        "path": str(path),
        "key": path.stem,
        "identity": "",
        "kind": "real",
        "split": "train",
        "source": "",
        "terms": "",
    }
    return {"video": video, "name": path.name, "index": 0, "start": 0.0, "end": 2.6}


@pytest.mark.slow
def test_a_killed_worker_and_another_number_of_them_change_nothing(
    tmp_path: Path, videos: Path, finished: Path
) -> None:
    folder = tmp_path / "set"
    killed: list[int] = []

    class Killer(PhaseProgress):
        @contextmanager
        def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[PhaseCounts], None]]:
            yield self.show

        def show(self, counts: PhaseCounts) -> None:
            for path in (folder / "work" / "running").glob("shard-*.json"):
                state = read_json(path)
                if not killed and state is not None:
                    killed.append(state["process"])
                    os.kill(state["process"], signal.SIGKILL)

    began = time.monotonic()
    assert prepare([videos], folder, SETTINGS, running(workers=2), Killer()) is not None
    assert killed and killed[0] != os.getpid()
    assert checksums(folder) == checksums(finished)
    assert json.loads((folder / "manifest.json").read_bytes())["made_with"]["seconds"] <= time.monotonic() - began + 1


def changed_set(finished: Path, folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of a set in which some text of a file is another one."""
    copy = Path(shutil.copytree(finished, folder))
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new, 1))
    return copy


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("manifest.json", '"clips_sha256"', '"clips_sha"', r"manifest.json' is damaged: There is no [a-z]+ 'clips_sha'; did"),
        ("manifest.json", '"samples": 1', '"samples": "1"', r"shards.*samples must be a whole number .* but '1' was given"),
        ("manifest.json", '"schema": 1', '"schema": 9', "is of version 9, and this release reads version 1"),
        ("clips.jsonl", '"kind": "real"', '"kind": "Real"', "Line 1 of .*kind must be real or generated, but 'Real'"),
        ("clips.jsonl", '"kept": false', '"kept": "no"', "Line 1 of .*kept must be true or false, but 'no' was given"),
        ("clips.jsonl", '{"key"', '{"key', "Line 1 of .* is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_list_or_manifest_is_one_sentence(
    tmp_path: Path, finished: Path, name: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PreparedSet.open(changed_set(finished, tmp_path / "set", name, old, new))


def test_an_opened_set_can_be_sent_to_another_process(finished: Path) -> None:
    prepared = PreparedSet.open(finished)
    key = prepared.clips()[0].key
    before = prepared.bytes(key, "jpg")
    assert pickle.loads(pickle.dumps(prepared)).bytes(key, "jpg") == before


def test_the_advice_to_arrays_that_are_not_finite_leads_to_a_set_without_them(
    tmp_path: Path, videos: Path, finished: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "set"))
    tar, clips = folder / "shards" / "train-000000.tar", folder / "clips.jsonl"
    manifest, rows, prepared = read_json(folder / "manifest.json"), read_json_lines(clips), PreparedSet.open(folder)
    row = next(row for row in rows if row["key"] == "calm-0000")
    files = {ending: prepared.bytes(row["key"], ending) for ending in ("mp4", "flac", "jpg")}
    arrays = prepared.arrays(row["key"])
    files["safetensors"] = save(arrays | {"speech": arrays["speech"] * torch.inf})
    row["sha256"] = files_sha256(files)
    with writing_shard(tar) as shard:
        shard.add(row["key"], row, files)
    clips.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest["shards"][0] |= {"bytes": tar.stat().st_size, "sha256": file_sha256(tar)}
    write_strict_json(folder / "manifest.json", manifest | {"clips_sha256": file_sha256(clips)})
    with pytest.raises(
        InputError, match=r"'speech' of the clip 'calm-0000' .*not finite.* folder, without 'calm.mp4'\."
    ):
        face_tracks(PreparedSet.open(folder))
    others = Path(shutil.copytree(videos, tmp_path / "videos"))
    (others / "calm.mp4").unlink()
    prepare([others], tmp_path / "other", SETTINGS, running())
    assert [track.info.file for track in face_tracks(PreparedSet.open(tmp_path / "other"))] == ["deep_lively-0000.mp4"]
