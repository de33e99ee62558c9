"""`fantasytalking download` against a small hub on this machine: the real client, a few files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.download import REPOSITORIES, WAN_DIFFUSERS, WAN_ORIGINAL

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "acvlab/FantasyTalking": {"fantasytalking_model.ckpt": b"adapter" * 3000, "assets/fig.png": b"not needed"},
    "facebook/wav2vec2-base-960h": {
        "config.json": b"{}",
        "preprocessor_config.json": b"{}",
        "model.safetensors": b"speech" * 50,
        "tf_model.h5": b"another format",
    },
}


LARGE = {"fantasytalking_model.ckpt", "model.safetensors"}


def sha256(name: str) -> str:
    """Of the true content of a file, whatever the hub sends."""
    return hashlib.sha256(next(files[name] for files in FILES.values() if name in files)).hexdigest()


class Hub(ThreadingHTTPServer):
    """Answers what the client of the hub asks for: listings, sizes, content, ranges of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files = {repository: dict(files) for repository, files in FILES.items()}
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_at: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        for repository, files in self.server.files.items():
            if path.startswith(f"api/models/{repository}/tree"):
                listing = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    | ({"lfs": {"oid": sha256(name), "size": len(content), "pointerSize": 1}} if name in LARGE else {})
                    for name, content in files.items()
                ]
                return self._send(json.dumps(listing).encode(), body)
            if path.startswith(f"api/models/{repository}"):
                siblings = [{"rfilename": name} for name in files]
                return self._send(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode(), body)
            prefix = f"{repository}/resolve/{COMMIT}/"
            if path.startswith(prefix) and path[len(prefix) :] in files:
                return self._send(files[path[len(prefix) :]], body, file=True)
        self._send(b"{}", body, status=404, code="RepoNotFound")

    def _send(self, content: bytes, body: bool, status: int = 200, file: bool = False, code: str = "") -> None:
        start = 0
        if file and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            status = 206
        part = content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if file:
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if body:
            cut = self.server.cut_at if file and len(content) > 1000 else None
            self.wfile.write(part if cut is None else part[: max(0, cut - start)])
            if cut is not None:
                self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


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
