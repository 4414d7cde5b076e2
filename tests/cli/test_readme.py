"""What the README shows is what the commands and the library take."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forking import run_command

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ hashshare (.+)$", README, re.MULTILINE)
FILES = ("acme.invitation", "hashes.csv", "wrong.csv", "mistakes.csv")


def test_the_readme_shows_commands() -> None:
    """Otherwise the next test would try nothing."""
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_spelled_right(tmp_path: Path, command: str) -> None:
    """It gets as far as asking for what is not here: a profile, a coalition."""
    for name in (*FILES, *(["try.csv"] if command.startswith("push ") else [])):
        (tmp_path / name).write_text("")
    environment = os.environ | {"HASHSHARE_PROFILE": str(tmp_path / "nobody")}

    done = run_command(shlex.split(command), environment, folder=tmp_path)

    assert done.code == (0 if command.startswith(("init ", "sandbox ")) else 1), done.err


def test_the_example_has_the_librarys_types(tmp_path: Path) -> None:
    """A name that is not there would be found."""
    (example,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(example)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "example.py")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
