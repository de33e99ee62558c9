"""Weights of the metrics: said before they are fetched, resumed, verified, and nothing that was not asked for."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from fantasytalking.errors import CheckpointError, OutputError, SettingsError
from fantasytalking.evaluation.networks import metric_weights
from fantasytalking.evaluation.networks.metric_weights import (
    WEIGHTS,
    HubRepository,
    WeightFile,
    digest,
    fetch,
    locate,
    require,
)
from fantasytalking.evaluation.networks.network_inputs import read_state
from tests.model_hub import COMMIT, Hub

CONTENT = b"weights" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Files by name, with ranges; can break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, bytes] = {"a.pth": CONTENT, "b.pth": b"other" * 10}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_at: int | None = None
        self.ranges = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name, span = self.path.strip("/"), self.headers.get("Range")
        self.server.requests.append((name, span))
        if name not in self.server.files:
            return self.send_error(404)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.server.ranges else 0
        rest = self.server.files[name][start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if self.server.cut_at is None else rest[: max(0, self.server.cut_at - start)])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FANTASYTALKING_WEIGHTS_MIRROR", raising=False)
    for key, size, sha256 in (("a", len(CONTENT), SHA256), ("b", None, None)):
        entry = WeightFile(
            key, f"{key}.pth", f"{made.address}/{key}.pth", size, sha256, "MIT of the test", "https://page", "Test"
        )
        monkeypatch.setitem(WEIGHTS, key, entry)
    yield made
    made.shutdown()
    made.server_close()


def change(monkeypatch: pytest.MonkeyPatch, key: str, **fields: Any) -> None:
    entry = WEIGHTS[key]
    assert isinstance(entry, WeightFile)
    monkeypatch.setitem(WEIGHTS, key, replace(entry, **fields))


def test_every_entry_names_address_licence_and_a_whole_digest_or_revision() -> None:
    for entry in WEIGHTS.values():
        assert entry.licence and entry.needed_by and entry.source.startswith("https://")
        if isinstance(entry, WeightFile):
            assert entry.url.startswith("https://") and entry.size
            assert entry.sha256 is not None and re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
            named = re.search(r"-([0-9a-f]{8})\.pth$", entry.filename)
            assert named is None or entry.sha256.startswith(named[1])
        else:
            assert entry.revision is None or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert len({entry.filename for entry in WEIGHTS.values()}) == len(WEIGHTS)


def test_licence_and_size_are_said_before_the_first_byte_and_only_what_was_asked_for_comes(server: Server) -> None:
    said: list[tuple[str, int]] = []
    found = fetch(["a"], lambda line: said.append((line, len(server.requests))))
    assert said == [("a: a.pth, 35,000 bytes, licence: MIT of the test, from https://page, for Test", 0)]
    assert [name for name, _ in server.requests] == ["a.pth"]
    assert found["a"].read_bytes() == CONTENT
    assert locate("b") is None
    fetch(["a"], lambda line: said.append((line, -1)))
    assert len(server.requests) == len(said) == 1


def test_looking_and_measuring_never_fetch(server: Server) -> None:
    assert locate("a") is None
    with pytest.raises(CheckpointError, match=r"fantasytalking weights a.*MIT of the test"):
        require("a")
    with pytest.raises(CheckpointError, match="are not in"):
        digest("a")
    assert not server.requests


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_fetch_goes_on_where_it_stopped_if_the_source_can(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.cut_at, server.ranges = 10_000, ranges
    with pytest.raises(CheckpointError, match="what has arrived is kept"):
        fetch(["a"], lambda line: None)
    assert (tmp_path / "cache" / "a.pth.part").stat().st_size == 10_000
    server.cut_at = None
    assert fetch(["a"], lambda line: None)["a"].read_bytes() == CONTENT
    assert server.requests[-1] == ("a.pth", "bytes=10000-")
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_file_of_unknown_size_that_breaks_off_is_not_taken_for_whole(server: Server) -> None:
    server.cut_at = 20
    with pytest.raises(CheckpointError, match="30 bytes early"):
        fetch(["b"], lambda line: None)
    assert locate("b") is None


def test_another_content_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.files["a.pth"] = b"forged!" * 5000
    with pytest.raises(CheckpointError, match="deleted"):
        fetch(["a"], lambda line: None)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_file()]


def test_the_first_eight_digits_are_enough_to_refuse(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "a", sha256="00000000")
    with pytest.raises(CheckpointError, match="00000000"):
        fetch(["a"], lambda line: None)
    change(monkeypatch, "a", sha256=SHA256[:8])
    fetch(["a"], lambda line: None)
    assert digest("a") == SHA256


def test_a_file_put_there_by_hand_is_verified_and_then_not_hashed_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "a.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert locate("a") == path
    stamp = json.loads((path.parent / ".a.pth.stamp").read_text())
    assert stamp["sha256"] == SHA256 == digest("a")
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(CheckpointError, match="listed; delete it and fetch it again"):
        locate("a")
    path.unlink()
    assert fetch(["a"], lambda line: None)["a"].read_bytes() == CONTENT


def test_without_a_listed_digest_the_first_copy_is_pinned(server: Server) -> None:
    path = fetch(["b"], lambda line: None)["b"]
    assert digest("b") == hashlib.sha256(server.files["b.pth"]).hexdigest()
    path.write_bytes(b"changed later")
    with pytest.raises(
        CheckpointError, match=r"first used .*; delete it and fetch it again, or delete \.b\.pth\.stamp"
    ):
        digest("b")
    path.unlink()
    fetch(["b"], lambda line: None)
    path.write_bytes(b"changed later")
    path.with_name(".b.pth.stamp").unlink()
    assert digest("b") == hashlib.sha256(b"changed later").hexdigest()


def test_an_unreadable_first_copy_is_replaced_as_its_sentence_says(server: Server) -> None:
    """Before, the advice was to fetch it again, which left it as it was because it was there."""
    path = fetch(["b"], lambda line: None)["b"]
    with pytest.raises(
        CheckpointError, match=r"plain tensors \(it holds something else\); delete it and fetch it again"
    ):
        read_state(path)
    made = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, made)
    server.files["b.pth"] = made.getvalue()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"or delete \.b\.pth\.stamp beside it to use it as it is now"):
        fetch(["b"], lambda line: None)
    path.with_name(".b.pth.stamp").unlink()
    assert list(read_state(fetch(["b"], lambda line: None)["b"])) == ["weight"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_mirror_folder_stands_in_for_the_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.pth").write_bytes(CONTENT)
    monkeypatch.setenv("FANTASYTALKING_WEIGHTS_MIRROR", f"{scheme}{mirror}")
    assert fetch(["a"], lambda line: None)["a"].read_bytes() == CONTENT
    assert not server.requests


def test_a_mirror_address_stands_in_for_the_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "a", url="http://127.0.0.1:9/a.pth")
    with pytest.raises(CheckpointError, match="FANTASYTALKING_WEIGHTS_MIRROR"):
        fetch(["a"], lambda line: None)
    monkeypatch.setenv("FANTASYTALKING_WEIGHTS_MIRROR", server.address + "/")
    assert fetch(["a"], lambda line: None)["a"].read_bytes() == CONTENT


def test_unknown_names_missing_files_and_full_disks_are_one_sentence(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="inception"):
        fetch(["inceptoin"])
    del server.files["b.pth"]
    with pytest.raises(CheckpointError, match="status 404"):
        fetch(["b"], lambda line: None)
    change(monkeypatch, "a", size=10**18)
    with pytest.raises(OutputError, match="FANTASYTALKING_CACHE"):
        fetch(["a"], lambda line: None)


def test_another_cache_is_used_where_the_first_cannot_be_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="give another folder with FANTASYTALKING_CACHE"):
        fetch(["a"], lambda line: None)
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "other"))
    assert fetch(["a"], lambda line: None)["a"] == tmp_path / "other" / "a.pth"


REPOSITORY = HubRepository(
    "test-hub", "facebook/wav2vec2-base-960h", COMMIT, ("config.json", "x|*.safetensors"), "MIT", "Test"
)


def test_a_repository_comes_from_the_hub_with_its_needed_files_only(
    server: Server,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(WEIGHTS, "test-hub", REPOSITORY)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    said: list[str] = []
    folder = fetch(["test-hub"], said.append)["test-hub"]
    assert said == [
        "test-hub: wav2vec2-base-960h, 302 bytes, licence: MIT, from https://huggingface.co/facebook/wav2vec2-base-960h, for Test"
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    first = digest("test-hub")
    (folder / "config.json").write_text('{"changed": true}')
    with pytest.raises(CheckpointError, match="first used"):
        digest("test-hub")
    assert len(first) == 64


def test_a_repository_may_come_from_a_mirror_folder_and_half_of_it_does_not_count(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTS, "test-hub", REPOSITORY)
    monkeypatch.setenv("FANTASYTALKING_WEIGHTS_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(CheckpointError, match="wav2vec2-base-960h"):
        fetch(["test-hub"], lambda line: None)
    folder = tmp_path / "mirror" / "wav2vec2-base-960h"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="are not in"):
        fetch(["test-hub"], lambda line: None)
    (folder / "model.safetensors").write_bytes(b"x")
    assert (fetch(["test-hub"], lambda line: None)["test-hub"] / "model.safetensors").read_bytes() == b"x"


def test_the_cache_lies_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANTASYTALKING_CACHE", raising=False)
    assert metric_weights.cache_folder() == Path.home() / ".cache" / "fantasytalking" / "metrics"
