"""The door: a static help page, and exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from palmforge import front
from palmforge.cli import PalmCLI, own_commands


def test_help_names_every_command_and_no_other():
    listed = set(re.findall(r"^  (\w+) +\S", front.HELP, flags=re.MULTILINE)) - {"train"}
    assert listed == PalmCLI.subcommands().keys() | own_commands().keys()


def test_bare_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['train.py', '--help']; sys.path.insert(0, 'src')\n"
        "from palmforge.front import main; main()\n"
        "assert not {'torch', 'lightning', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


def test_what_the_user_can_mend_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "data", "summary", "/no/such/place"])
    with pytest.raises(SystemExit) as stop:
        front.main()
    assert stop.value.code == 2
    assert "no directory '/no/such/place'" in capsys.readouterr().err
