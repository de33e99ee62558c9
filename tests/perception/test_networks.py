"""The bundled networks: all there, described, and run safely."""

import hashlib
import multiprocessing
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.perception.networks.network_runner import FOLDER, NAMES, Network


def test_every_bundled_network_is_in_the_notice_with_its_size_and_checksum() -> None:
    notice = (FOLDER / "NOTICE").read_text()
    listed = {
        name: (int(size.replace(",", "")), checksum)
        for name, size, checksum in re.findall(r"^(\w+)\.tflite +([\d,]+) bytes\n +sha256 (\w{64})$", notice, re.M)
    }
    files = {path.stem: path.read_bytes() for path in FOLDER.glob("*.tflite")}
    assert listed == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    assert set(files) == set(NAMES)


def test_the_licence_texts_that_the_notice_names_are_there() -> None:
    for name in set(re.findall(r"LICENSE-[\w.-]+\.txt", (FOLDER / "NOTICE").read_text())):
        assert len((FOLDER / name).read_text()) > 1000


def test_an_unknown_network_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(SettingsError, match="face_landmark"):
        Network("face_landmarks")


def test_an_input_of_another_shape_is_refused_with_the_shape_wanted() -> None:
    with pytest.raises(SettingsError, match=r"\(1, 192, 192, 3\).*\(192, 192, 3\)"):
        Network("face_landmark")(np.zeros((192, 192, 3), np.float32))


def test_outputs_are_copies_and_threads_do_not_disturb_each_other() -> None:
    network = Network("face_detection_short_range")
    inputs = [np.random.default_rng(i).uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32) for i in range(12)]
    alone = [network(array) for array in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network, inputs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def _scores(array: np.ndarray) -> np.ndarray:
    return Network("face_detection_short_range")(array)[1]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here")
def test_a_forked_process_loads_its_own_copy() -> None:
    array = np.zeros((1, 128, 128, 3), np.float32)
    here = _scores(array)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply_async(_scores, (array,)).get(timeout=60)
    np.testing.assert_array_equal(here, there)


def test_the_runtime_writes_nothing_to_the_terminal() -> None:
    code = (
        "import numpy as np; from fantasytalking.perception.networks.network_runner import Network; "
        "Network('face_detection_short_range')(np.zeros((1, 128, 128, 3), np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
