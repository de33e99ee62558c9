"""What tests of several folders need: two short clips of a face that speaks, a small model hub."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.model_hub import Hub

pytest_plugins = ["tests.repository_folder", "tests.skip_check"]

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch and OpenCV are imported, here and in what tests start: each worker has a core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Until the tests are collected: imports make millions of objects, all of which stay.
gc.disable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that have the most slow tests, then the longest, so that no worker is left alone with one of them at the end."""
    if not hasattr(config, "workerinput"):
        return
    slow, count = Counter[Path](), Counter[Path]()
    for item in items:
        slow[item.path] += item.get_closest_marker("slow") is not None
        count[item.path] += 1
    items.sort(key=lambda item: (-slow[item.path], -count[item.path]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector what is there for good: modules and tests, millions of objects that it would look at again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_children() -> None:
    """Undo an ignored SIGINT, which a shell gives to what it starts in the background and every child inherits."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_config_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place for the key that signs videos, of tests and of what they start: nothing is written to the user's own folder."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    folder = tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent
    before = {name: os.environ.get(name) for name in ("XDG_CONFIG_HOME", "APPDATA")}
    os.environ.update(dict.fromkeys(before, str(folder / "config")))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `calm.mp4` and `lively.mp4`: 2.6 s of the example portrait, 256 pixels, 25 frames a second, with sound.

    Made by the embedded model, in four steps, once for all workers. The face is 75 pixels large.
    """
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    folder = (tmp_path_factory.mktemp if alone else tmp_path_factory.getbasetemp().parent.joinpath)("talking")
    with FileLock(f"{folder}.lock"):
        if not (folder / "lively.mp4").is_file():
            make_talking(folder)
    return folder


def make_talking(folder: Path) -> None:
    """Write the two clips."""
    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.media.image import load_image
    from fantasytalking.media.video import write_video
    from fantasytalking.pipeline.model_names import embedded_folder
    from fantasytalking.pipeline.progress import Progress

    class Quiet(Progress):
        def show_note(self, text: str) -> None:
            pass

    folder.mkdir(exist_ok=True)
    example = embedded_folder() / "example"
    portrait = load_image(example / "portrait.png")[:360, 50:410]
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded")
    for name, seed, level in (("calm", 1, 0.4), ("lively", 2, 0.9)):
        settings: dict[str, Any] = {
            "longest_side": 256,
            "max_seconds": 2.6,
            "steps": 4,
            "seed": seed,
            "w_face": level,
            "w_body": level,
        }
        video = pipeline(portrait, example / "speech.wav", progress=Quiet(), **settings)
        # Better than `save` encodes: how steady a picture is told to be when it is encoded once more depends on it.
        write_video(folder / f"{name}.mp4", video, video.fps, video.audio)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A model hub on this machine, for the time of one test."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
