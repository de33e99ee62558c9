"""A Ray cluster that is not there is told in one sentence, soon, and without Ray's own log."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil
import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.data.preparation import executors
from fantasytalking.data.preparation.executors import check_cluster, worker_count
from fantasytalking.data.preparation.preparation_settings import RunSettings
from fantasytalking.errors import InputError, ResourceError, SettingsError
from fantasytalking.media.video import write_video
from tests.media.files import moving_bar

WAY_OUT = "start one with 'ray start --head', or leave --address out to work on this machine alone."


@pytest.mark.parametrize(
    "address", ["nonsense", "ray://", "ray://host", "http://host:1", "host:port", "host:1234567", "", "a b:1"]
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"address must be auto, HOST:PORT or ray://HOST:PORT, but .* was given"):
        RunSettings(address=address)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://head.cluster:10001", "[::1]:6379"])
def test_the_forms_that_ray_knows_are_accepted(address: str) -> None:
    assert RunSettings(address=address).address == address


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_closed_port_is_one_sentence_before_anything_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    video = write_video(tmp_path / "a.mp4", moving_bar(10), 25, preset="ultrafast")
    address = form.format(f"127.0.0.1:{closed_port()}")
    assert main(["prepare", str(video), "--output", str(tmp_path / "set"), "--address", address]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: There is no Ray cluster at '{address}' (Connection refused); {WAY_OUT}\n"
    assert not (tmp_path / "set").exists()


def test_a_port_that_is_not_of_ray_is_told_within_half_a_minute(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executors._CONNECT_SECONDS + executors._ANSWER_SECONDS < 30
    monkeypatch.setattr(executors, "_ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"ray://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(InputError) as error:
            check_cluster(address)
    assert str(error.value) == f"There is no Ray cluster at '{address}'; {WAY_OUT}"
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_auto_without_a_cluster_is_one_sentence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # "auto" finds any cluster of the machine, also that of a test in another worker, which is waited for a minute at most: then the
    # answer is that of a machine with a cluster.
    for _ in range(30):
        if not ray_runs():
            break
        time.sleep(2)
    alone, found = not ray_runs(), None
    try:
        check_cluster("auto")
    except InputError as error:
        found = str(error)
    if found is None:
        assert not alone or ray_runs()
    else:
        assert found.startswith("There is no Ray cluster at 'auto'; start one with 'ray start --head'")
    assert capfd.readouterr() == ("", "")


def ray_runs() -> bool:
    """Whether a Ray cluster runs on this machine."""
    return any("gcs_server" in (process.info["name"] or "") for process in psutil.process_iter(["name"]))


@pytest.mark.parametrize("devices", [0.0, 1.0, 2.0])
def test_the_share_of_a_gpu_that_is_advised_is_there(devices: float) -> None:
    """Before, a machine without a GPU was told to pass a smaller share, of which any but 0 is too much."""
    found = {"CPU": 4.0, "GPU": devices}
    with pytest.raises(ResourceError, match=r"pass --gpus-per-worker of ") as caught:
        worker_count(None, 4.0, found)
    advised = float(str(caught.value).split()[-1].rstrip("."))
    assert worker_count(None, RunSettings(gpus_per_worker=advised).gpus_per_worker, found) >= 1
    with pytest.raises(ResourceError, match="add a machine with free CPU cores"):
        worker_count(None, 0.0, {"GPU": devices})


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
