"""A small model hub on this machine that answers the real client of huggingface_hub."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

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
