"""The table of commands: lazy imports, exit statuses, `info`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from fantasytalking import __version__
from fantasytalking.cli.__main__ import COMMANDS, main


def test_without_a_command_the_table_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(shown.count(f"\n  {name} ") == 2 for name in COMMANDS)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_an_unknown_command_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generat"]) == 2
    assert capsys.readouterr().err == "error: There is no command 'generat'; did you mean 'generate'?\n"


def test_a_misspelt_option_in_place_of_a_command_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verison"]) == 2
    assert capsys.readouterr().err == "error: There is no option '--verison'; did you mean '--version'?\n"


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert "commands:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["help", "generate"])
    assert stopped.value.code == 0 and "fantasytalking generate" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_one_entry(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(COMMANDS[name].module).main)
    try:
        status: object = main([name, "--help"])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 0
    assert f"fantasytalking {name}" in capsys.readouterr().out


def test_the_help_of_generate_needs_no_framework() -> None:
    code = (
        "import sys\n"
        "from fantasytalking.cli.__main__ import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*[name for name in ('torch', 'diffusers', 'transformers', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_info_tells_versions_devices_and_what_is_possible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fantasytalking"] == __version__
    assert facts["packages"]["torch"] and facts["packages"]["diffusers"]
    assert facts["devices"][0]["device"] == "cpu" and facts["devices"][0]["cores"] >= 1
    assert facts["encoders"] == {"libx264": True, "aac": True}
    assert {"module", "installed", "extra", "enables"} == set(facts["optional"][0])
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "H.264" in text and "devices" in text
