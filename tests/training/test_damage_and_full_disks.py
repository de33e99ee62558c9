"""Files that a later start reads back, damaged: made again with a note where that can be, one sentence elsewhere. Full disks: one sentence.

`file_limit` stands for a full disk.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.cli.__main__ import main
from fantasytalking.data.face_tracks import load_track, prepare_tracks, save_track
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.errors import CheckpointError, FantasyTalkingError, InputError, OutputError, SettingsError
from fantasytalking.perception.lip_sync import LipSync, LipSyncNetwork
from fantasytalking.perception.mouth_view import MouthView
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.json import append_json_line
from fantasytalking.training.distillation.distil_embedded import export_student
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES
from fantasytalking.training.embedded.export_model import export_embedded
from fantasytalking.training.embedded.mouth_pairs import MouthPair, MouthPairs
from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER, load_material
from fantasytalking.training.lip_sync.lip_sync_data import cached_view
from fantasytalking.training.lip_sync.train_lip_sync import average_face, save_weights
from fantasytalking.training.motion_percentiles import read_percentiles
from fantasytalking.training.trainer.phases import PHASES
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.stored_checkpoint import load_ema
from tests.cli.test_train import make_video
from tests.system.file_limit import file_limit
from tests.tiny import tiny_whisper
from tests.training import synthetic
from tests.training.tiny_run import CONFIG, new_model, trainer


def flip(path: Path, place: float = 0.7) -> None:
    """Change a byte at some share of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x55
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Leave half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def hidden(folder: Path) -> list[str]:
    """What was left half-written."""
    return [path.name for path in folder.rglob(".*")]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and their catalogue."""
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for number, start in enumerate((0.2, 2.2)):
        make_video(folder / f"{number}.mp4", start, number)
        rows.append({"file": f"{number}.mp4", "identity": f"person{number}", "kind": "real", "split": "train"})
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture(scope="module")
def words(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of the recipe tiny that meets a full disk on its way, goes on each time there is more room, and is finished."""
    run = tmp_path_factory.mktemp("training") / "run"
    # so many pairs that their file is larger than the codec's
    return ["train", "tiny", "--data", str(videos), "--pairs-per-identity", "24", "--output", str(run)]


def run_of(words: list[str]) -> Path:
    return Path(words[-1])


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_point_is_one_sentence_and_the_command_goes_on_with_more_room(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before: `SafetensorError` in a traceback, or the clips left out for "disk is full"."""

    def fails(kilobytes: float) -> str:
        with file_limit(round(1000 * kilobytes)):
            assert main(words) == 2
        shown = capsys.readouterr().err
        assert "Traceback" not in shown and hidden(run_of(words)) == []
        return shown.splitlines()[-1]

    # the pairs are smaller than the codec, which is written before them; see the test of every result for their sentence
    found = {name: fails(room) for name, room in (("0.safetensors", 100), ("codec.bin", 400))}
    found["run/painter"] = fails(3000)
    assert main(words) == 0
    model = run_of(words) / "model"
    shutil.rmtree(model)
    found[str(model)] = fails(4000)
    assert not model.exists()
    for name, sentence in found.items():
        assert sentence.startswith("error: The ") and name in sentence and "free some space" in sentence
    assert main(words) == 0
    phases = [json.loads(line)["phase"] for line in (run_of(words) / PHASES).read_text().splitlines()]
    assert phases[-7:] == ["tracks", "codec", "pairs", "painter", "transformer", "calibration", "export"]


@pytest.mark.slow
def test_damaged_measurements_are_made_again_with_a_note_and_the_same_content(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before: `SafetensorError`, `BadZipFile` or `InputError`, and with a flipped byte in an array nothing at all."""
    run = run_of(words)
    assert main(words) == 0
    tracks = [run / "tracks" / f"{number}.safetensors" for number in (0, 1)]
    before = [load_track(path) for path in tracks]
    codec, pairs = (run / "tracks" / "codec.bin").read_bytes(), MouthPairs.load(run / "mouth_pairs.npz")
    cut(tracks[1])
    for path in (tracks[0], run / "tracks" / "codec.bin", run / "mouth_pairs.npz"):
        flip(path)
    (run / "tracks" / "left_out.json").write_text("{")
    (run / "tracks" / "sync.json").write_text("")
    shutil.rmtree(run / "model" / "vae")
    (run / "model" / "card.md").write_text("of the user")
    (run / "tracks" / ".0.1234abcd.part.safetensors").write_text("left by a kill")
    capsys.readouterr()
    assert main(words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert [sum(str(path) in note for note in notes) for path in tracks] == [1, 1]
    assert sum("codec.bin cannot be used" in note and "fitted again" in note for note in notes) == 1
    assert sum("mouth_pairs.npz cannot be used" in note and "collected again" in note for note in notes) == 1
    for path, track in zip(tracks, before, strict=True):
        assert np.array_equal(load_track(path).points, track.points)
    assert (run / "tracks" / "codec.bin").read_bytes() == codec
    assert np.array_equal(MouthPairs.load(run / "mouth_pairs.npz").images, pairs.images)
    assert (run / "model" / "vae" / "config.json").is_file() and (run / "model" / "card.md").is_file()
    assert hidden(run) == []


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_track_whose_video_is_gone_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    track = synthetic.make_track("clip", "someone", frames=30)
    save_track(track, tmp_path / "clip.safetensors")
    damage(tmp_path / "clip.safetensors")
    left_out = prepare_tracks(tmp_path, tmp_path, tiny_whisper(), [track.info])
    assert "the clip is measured again" in capsys.readouterr().err
    assert left_out.keys() == {"clip.mp4"}
    assert not (tmp_path / "clip.safetensors").exists()


def test_a_damaged_track_of_another_run_is_a_sentence_and_deleting_it_helps(tmp_path: Path) -> None:
    cache = synthetic.write_cache(tmp_path / "tracks")
    flip(cache / "clip3.safetensors")
    with pytest.raises(InputError, match=r"clip3.safetensors cannot be used .*; delete it"):
        load_material(cache, synthetic.codec())
    (cache / "clip3.safetensors").unlink()
    material = load_material(cache, synthetic.codec(), report=tmp_path / "sync.json")
    assert len(material.train) == 7
    assert (tmp_path / "sync.json").is_file() and not (cache / "sync.json").exists()


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_mouth_is_measured_again_with_a_note(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    track, target = synthetic.make_track("0", "someone", frames=6), tmp_path / "0.safetensors"

    def view() -> MouthView:
        return cached_view(videos / "0.mp4", track, average_face(), target)

    first = view()
    assert np.array_equal(view().crops, first.crops)
    assert capsys.readouterr().err == ""
    damage(target)
    again = view()
    assert f"note: The mouth {target} cannot be used" in capsys.readouterr().err
    assert np.array_equal(again.crops, first.crops) and np.array_equal(again.shape, first.shape)


def test_a_damaged_checkpoint_is_a_sentence_and_deleting_it_goes_on_from_the_one_before(tmp_path: Path) -> None:
    trainer(tmp_path).train(until=2)
    trainer(tmp_path).train(until=3)
    for content in ("", "[]", "{", '{"format": 2}', '{"format": 2, "step": 3, "extra": [], "files": "x"}'):
        (tmp_path / "step-3" / "meta.json").write_text(content)
        refused(tmp_path, "step-3", "delete it, and step-2 is used")
    shutil.rmtree(tmp_path / "step-3")
    assert trainer(tmp_path).step == 2
    meta, weights = tmp_path / "step-2" / "meta.json", next((tmp_path / "step-2").glob("*.safetensors"))
    text, whole = meta.read_text(), weights.read_bytes()
    meta.write_text(text.replace('"samples": ', '"samples": 1', 1))
    refused(
        tmp_path,
        "step-2",
        "meta.json does not have the checksum that was stored with it; delete it, and the run begins anew",
    )
    meta.write_text(text)
    for damage in (flip, cut):
        damage(weights)
        refused(tmp_path, "step-2", f"{weights.name} does not have the checksum that was stored with it")
        weights.write_bytes(whole)
    assert trainer(tmp_path).step == 2
    # as earlier versions wrote it
    meta.write_text(
        json.dumps({key: value for key, value in json.loads(text).items() if key not in ("sha256", "digest")})
    )
    assert trainer(tmp_path).step == 2


def refused(run: Path, checkpoint: str, words: str) -> None:
    """Hold that neither training nor reading goes on from a checkpoint."""
    for way, use in (("continued", lambda: trainer(run)), ("read", lambda: load_ema(RunFolder(run)))):
        with pytest.raises(CheckpointError, match=rf"{checkpoint} cannot be {way}: .*{re.escape(words)}"):
            use()


def test_damaged_settings_of_a_run_are_a_sentence_and_deleting_the_file_goes_on(tmp_path: Path) -> None:
    """Before: `JSONDecodeError`, or settings that were not compared."""
    trainer(tmp_path).train(until=2)
    for content in (b"", b"[1]", b'{"seed": ', b"\xff\xfe\x00"):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(SettingsError, match=r"config.json is damaged, .*; delete it to go on"):
            trainer(tmp_path)
        (tmp_path / "config.json").unlink()
        assert trainer(tmp_path).step == 2
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_damaged_log_costs_its_damaged_lines_only(tmp_path: Path) -> None:
    trainer(tmp_path).train(until=2)
    log, starts = tmp_path / "log.jsonl", tmp_path / "starts.jsonl"
    log.write_bytes(b"\xff\xfe{\n" + log.read_bytes() + b'{"step": 9')
    starts.write_bytes(starts.read_bytes() + b"\xff")
    assert trainer(tmp_path).train(until=3) == 3
    assert [record["step"] for record in RunFolder(tmp_path).records()] == [1, 2, 3]


def test_damaged_percentiles_of_a_teacher_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "motion_percentiles.json"
    for content in ("{", "[]", '{"w_face": 1}', '{"w_face": ["a"], "w_body": ["b"]}'):
        path.write_text(content)
        with pytest.raises(
            CheckpointError, match=r"motion_percentiles.json cannot be read .*; restore the file, or delete it"
        ):
            read_percentiles(tmp_path)
    path.unlink()
    assert read_percentiles(tmp_path) is None


def test_a_checkpoint_that_finds_no_room_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    trainer(tmp_path).train(until=2)
    with file_limit(20_000), pytest.raises(OutputError, match=r"checkpoint could not be written .*; free some space"):
        trainer(tmp_path).train(until=3)
    assert hidden(tmp_path) == []
    assert [path.name for path in RunFolder(tmp_path).checkpoints()] == ["step-2"]
    assert trainer(tmp_path).train(until=3) == 3


def test_an_old_checkpoint_that_a_killed_run_could_not_delete_any_more_is_deleted_by_the_next_start(
    tmp_path: Path,
) -> None:
    """Killed between naming the last checkpoint and deleting the oldest, a finished run kept one more than `keep`."""
    for until in (1, 2):
        trainer(tmp_path).train(until=until)
    shutil.copytree(tmp_path / "step-1", tmp_path / "old")
    trainer(tmp_path).train(until=3)
    (tmp_path / "old").rename(tmp_path / "step-1")
    assert trainer(tmp_path).step == 3
    assert [path.name for path in RunFolder(tmp_path).checkpoints()] == ["step-2", "step-3"]


@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_log_that_finds_no_room_is_a_sentence(tmp_path: Path, tensorboard: bool) -> None:
    config = replace(CONFIG, tensorboard=tensorboard)
    with file_limit(2000):
        made = trainer(tmp_path, config)
        with pytest.raises(OutputError, match=r"could not be written .*free some space"):
            made.train(until=20)
    assert hidden(tmp_path) == []


def test_every_result_that_finds_no_room_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """Before: `SafetensorError` and `OSError`, and `.model.part` stayed."""
    codec, scale = synthetic.codec(), IntensityScale(torch.linspace(0, 1, 21)[:, None].repeat(1, 2))
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    lips = np.zeros((2, 20, 2), np.float32)
    pairs = MouthPairs.of([MouthPair(noise, noise, noise, lips, lips, 1.0)] * 9)
    sizes = {"in_channels": 36, "out_channels": 16, "image_dim": None, "added_kv_proj_dim": None}
    model = new_model(replace(CONFIG, model=CONFIG.model | sizes))
    writers: dict[str, Callable[[], object]] = {
        "track": lambda: save_track(synthetic.make_track("a", "a"), tmp_path / "a.safetensors"),
        "pairs": lambda: pairs.save(tmp_path / "pairs.npz"),
        "model": lambda: export_embedded(model, codec, MouthPainter(), scale, SPEECH_ENCODER, tmp_path / "model"),
        "student": lambda: export_student(
            model, DISTIL_RECIPES["distil-tiny"], embedded_folder(), tmp_path / "student", {}
        ),
        "lip-sync": lambda: save_weights(LipSync(LipSyncNetwork()), tmp_path / "lip_sync.safetensors"),
        "log": lambda: append_json_line(tmp_path / "log.jsonl", {"text": "x" * 100_000}),
    }
    for write in writers.values():
        with file_limit(50_000), pytest.raises(FantasyTalkingError, match="free some space or choose another folder"):
            write()
        assert hidden(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
