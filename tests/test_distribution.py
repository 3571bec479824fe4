"""The wheel is whole: it installs in an empty environment and the demo runs from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

QUIET = ("--quiet", "--disable-pip-version-check")


def run(*command: str | Path, folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def sources(project: Path, to: Path) -> Path:
    """A copy of what a wheel is made of: building leaves files behind, old ones too."""
    shutil.copytree(project / "taps_security", to / "taps_security", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, to)
    return to


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_installs_in_an_empty_environment_and_the_demo_runs(project: Path, tmp_path: Path) -> None:
    source = sources(project, tmp_path / "source")
    run(sys.executable, "-m", "pip", "wheel", *QUIET, "--no-deps", "--wheel-dir", tmp_path, source, folder=tmp_path)
    (wheel,) = tmp_path.glob("taps_security-*.whl")
    environment = tmp_path / "empty"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    run(scripts / "python", "-m", "pip", "install", *QUIET, wheel, folder=tmp_path)
    bare = subprocess.run([scripts / "taps", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bare.returncode == 2
    assert "pip install 'taps-security[cli]'" in bare.stderr
    run(scripts / "python", "-m", "pip", "install", *QUIET, f"{wheel}[cli]", folder=tmp_path)
    demo = json.loads(run(scripts / "taps", "demo", "--json", folder=tmp_path))
    assert {candidate["outcome"] for candidate in demo["candidates"]} >= {"won", "failed"}
    assert demo["winner"]
    typed = "import taps_security, pathlib; print((pathlib.Path(taps_security.__file__).parent / 'py.typed').exists())"
    assert run(scripts / "python", "-c", typed, folder=tmp_path) == "True\n"
