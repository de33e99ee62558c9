"""Runs the bundled ``.tflite`` networks on the CPU."""

import functools
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.errors import MissingDependencyError, SettingsError
from fantasytalking.system.native_output import quiet_stderr

FOLDER = Path(__file__).parent
NAMES = (
    "MobileFaceNet",
    "face_detection_short_range",
    "face_landmark",
    "pose_detection",
    "pose_landmark_full",
    "selfie_segmentation",
)


class Network:
    """One bundled network, called with its input array.

    Interpreters are loaded once per process and name, and shared by all instances; calls take turns.
    """

    def __init__(self, name: str) -> None:
        """Choose the network; its file is read at the first call.

        Args:
            name: one of ``NAMES``.

        Raises:
            SettingsError: for an unknown name.
        """
        if name not in NAMES:
            raise SettingsError(f"There is no bundled network {name!r}; choose one of {', '.join(NAMES)}.")
        self.name = name

    def __call__(self, array: np.ndarray) -> list[np.ndarray]:
        """Run the network.

        Args:
            array: input of exactly the network's shape (batch axis included), converted to float32.

        Returns:
            The outputs in the file's order, float32, copied.

        Raises:
            SettingsError: when the shape of ``array`` is not the network's.
        """
        # The process id is part of the key: an interpreter (and its lock) inherited by fork must not be reused.
        return _interpreter(self.name, os.getpid()).run(array)


class _Interpreter:
    def __init__(self, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        self.interpreter = interpreter
        self.input = interpreter.get_input_details()[0]
        self.outputs = [detail["index"] for detail in interpreter.get_output_details()]
        self.lock = threading.Lock()

    def run(self, array: np.ndarray) -> list[np.ndarray]:
        expected = tuple(int(n) for n in self.input["shape"])
        if array.shape != expected:
            raise SettingsError(f"The network takes an input of shape {expected}, not {array.shape}.")
        with self.lock:
            self.interpreter.set_tensor(self.input["index"], np.ascontiguousarray(array, dtype=np.float32))
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(index) for index in self.outputs]


@functools.cache
def _interpreter(name: str, process: int) -> _Interpreter:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingDependencyError(
            "Face and body perception needs the package ai-edge-litert, which cannot be imported "
            f"({error}); install it with pip install ai-edge-litert, which has wheels for Windows, macOS on Apple silicon, and Linux "
            "with glibc on x86-64 and ARM."
        ) from error
    # it tells of its delegate, and has no switch for that
    with quiet_stderr():
        return _Interpreter(Interpreter(model_path=str(FOLDER / f"{name}.tflite"), num_threads=1))
