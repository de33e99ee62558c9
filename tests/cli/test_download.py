"""`fantasytalking download` against a small hub on this machine: the real client, a few files."""

from __future__ import annotations

import json
from pathlib import Path

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.download import REPOSITORIES, WAN_DIFFUSERS, WAN_ORIGINAL
from tests.model_hub import Hub


def download(hub: Hub | str, target: Path, *words: str) -> int:
    address = hub if isinstance(hub, str) else hub.address
    only = () if "--only" in words else ("--only", "adapter", "audio-encoder")
    return main(["download", str(target), "--endpoint", address, *only, *words])


def test_only_what_is_needed_arrives_and_sizes_and_licences_are_said_first(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert download(hub, tmp_path) == 0
    said = capsys.readouterr()
    assert "acvlab/FantasyTalking: 1 files, 0.00 GB, licence Apache-2.0" in said.err
    assert "facebook/wav2vec2-base-960h: 3 files" in said.err and "GB to download to" in said.err
    assert said.out.splitlines() == [str(tmp_path / "FantasyTalking"), str(tmp_path / "wav2vec2-base-960h")]
    arrived = {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file() and ".cache" not in p.parts
    }
    assert arrived == {
        "FantasyTalking/fantasytalking_model.ckpt",
        *(f"wav2vec2-base-960h/{name}" for name in ("config.json", "preprocessor_config.json", "model.safetensors")),
    }
    assert (tmp_path / "FantasyTalking" / "fantasytalking_model.ckpt").read_bytes() == b"adapter" * 3000


def test_what_is_there_is_not_fetched_again(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert download(hub, tmp_path) == 0
    hub.requests.clear()
    assert download(hub, tmp_path, "--json") == 0
    assert not [path for command, path, _ in hub.requests if command == "GET" and "/resolve/" in path]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"] == 0


def test_an_interrupted_download_goes_on_where_it_stopped(hub, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    # The client writes what arrived in whole chunks, which are larger than this test's files, and waits between tries.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.cut_at = 9000
    assert download(hub, tmp_path, "--only", "adapter") == 2
    assert "run the same command again to resume" in capsys.readouterr().err
    assert not (tmp_path / "FantasyTalking" / "fantasytalking_model.ckpt").exists()
    hub.cut_at = None
    hub.requests.clear()
    assert download(hub, tmp_path, "--only", "adapter") == 0
    assert (tmp_path / "FantasyTalking" / "fantasytalking_model.ckpt").read_bytes() == b"adapter" * 3000
    ranges = [span for command, path, span in hub.requests if command == "GET" and path.endswith(".ckpt")]
    assert ranges and ranges[0] is not None and ranges[0].startswith("bytes=9000-")


def test_a_dry_run_writes_and_fetches_nothing(hub, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert download(hub, tmp_path / "weights", "--dry-run") == 0
    assert not (tmp_path / "weights").exists()
    assert not [path for command, path, _ in hub.requests if command == "GET" and "/resolve/" in path]


def test_offline_is_one_sentence_even_over_a_half_filled_folder(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "FantasyTalking").mkdir()
    (tmp_path / "FantasyTalking" / "fantasytalking_model.ckpt").write_bytes(b"half")
    assert download("http://127.0.0.1:9", tmp_path) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert (
        "acvlab/FantasyTalking cannot be downloaded: http://127.0.0.1:9 cannot be reached; check the connection"
        in said.err
    )


def test_a_repository_that_is_gone_is_named(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    del hub.files["acvlab/FantasyTalking"]
    assert download(hub, tmp_path) == 2
    assert "the hub has no such repository" in capsys.readouterr().err


def test_a_file_that_is_gone_is_named(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    del hub.files["facebook/wav2vec2-base-960h"]["model.safetensors"]
    assert download(hub, tmp_path) == 2
    assert "no longer has model.safetensors" in capsys.readouterr().err


def test_a_file_with_other_content_than_listed_is_thrown_away(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    hub.files["acvlab/FantasyTalking"]["fantasytalking_model.ckpt"] = b"forged " * 3000
    assert download(hub, tmp_path, "--only", "adapter") == 2
    assert "from acvlab/FantasyTalking differs from the hub's listing" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_is_said(hub, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "FantasyTalking").write_text("a file where the folder should be")
    assert download(hub, tmp_path, "--only", "adapter") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(hub, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert download(hub, tmp_path / "weights") == 2
    assert "choose a larger disk" in capsys.readouterr().err
    assert not [path for command, path, _ in hub.requests if command == "GET" and "/resolve/" in path]


def test_the_patterns_take_the_published_names_and_leave_the_rest() -> None:
    from fnmatch import fnmatch

    def taken(names: list[str], patterns: tuple[str, ...]) -> list[str]:
        return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]

    needed = ["diffusion_pytorch_model-00001-of-00007.safetensors", "diffusion_pytorch_model.safetensors.index.json",
              "config.json", "Wan2.1_VAE.pth", "google/umt5-xxl/spiece.model", "google/umt5-xxl/tokenizer.json"]  # fmt: skip
    surplus = ["assets/logo.png", "README.md", "xlm-roberta-large/tokenizer.json", "examples/i2v_input.JPG"]
    assert taken(needed + surplus, WAN_ORIGINAL.patterns) == needed
    needed = ["transformer/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/spiece.model"]
    assert taken([*needed, "image_processor/preprocessor_config.json", "README.md"], WAN_DIFFUSERS.patterns) == needed
    assert len({repository.folder for repository in REPOSITORIES}) == len(REPOSITORIES)
