"""What surrounds the import of the frameworks: no collection of garbage, and threads that wait without spinning."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.system.startup import check_threads, importing_frameworks


def test_garbage_is_collected_again_afterwards() -> None:
    with importing_frameworks():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_module_needs_no_framework_and_a_choice_of_the_user_stays() -> None:
    code = (
        "import gc, os, sys\n"
        "from fantasytalking.system.startup import importing_frameworks\n"
        "assert 'torch' not in sys.modules\n"
        "with importing_frameworks(): import json.tool\n"
        "print(os.environ['OMP_WAIT_POLICY'], gc.get_freeze_count() > 0)\n"
    )
    for given, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == [policy, "True"]


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_an_impossible_number_of_threads_is_refused(count: int) -> None:
    with pytest.raises(SettingsError, match="--threads must be at least 1 and at most 1024"):
        check_threads(count)
    check_threads(None)
    check_threads(1024)
