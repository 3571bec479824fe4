"""The entry point: without the extra it says what to install; `python -m taps_security` is the same command."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from taps_security.cli import main
from tests.cli.processes import TAPS, one_line, run, without_packages


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    environment = without_packages(tmp_path, package)
    words = [*TAPS, "protocols"]
    ran = subprocess.run(words, env=environment, capture_output=True, timeout=30, check=False)
    assert ran.returncode == 2
    assert "pip install 'taps-security[cli]'" in one_line(ran.stderr)


def test_another_missing_package_is_not_blamed_on_the_extra(tmp_path: Path) -> None:
    environment = without_packages(tmp_path, "tomllib")
    ran = subprocess.run([*TAPS, "protocols"], env=environment, capture_output=True, timeout=30, check=False)
    assert ran.returncode == 1
    assert b"taps-security[cli]" not in ran.stderr


def test_the_script_is_this_function(project: Path) -> None:
    scripts = tomllib.loads((project / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"taps": "taps_security.cli:main"}


def test_python_m_is_the_command() -> None:
    ran = run("protocols", "--json")
    assert ran.returncode == 0, ran.stderr
    assert b'"candidates"' in ran.stdout


def test_main_returns_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    assert main(["protocols", "--require", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
