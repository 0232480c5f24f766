"""The wheel holds all that dynlab needs and nothing else, and works where there is no checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it, as a release does."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (built,) = dist.glob("dynlab-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> Path:
    """Return the `bin` folder of an environment that holds the wheel and its dependencies, nothing else."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, with_pip=True)
    folder = environment / ("Scripts" if os.name == "nt" else "bin")
    try:
        run(str(folder / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel))
    except AssertionError as exc:
        if "Could not find a version" in str(exc) and "(from versions: none)" in str(exc):
            unavailable("no package index within reach")
        raise
    return folder


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command that knows nothing of this checkout or this environment; return what it prints."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"COLUMNS": "1000"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sources(folder: str) -> set[str]:
    """List the files of a folder of the checkout as the wheel should have them, without what tools leave there."""
    litter = {"__pycache__", ".ipynb_checkpoints", ".DS_Store"}
    return {
        path.relative_to(ROOT / folder).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not litter & set(path.parts)
    }


def test_the_wheel_holds_the_package_and_the_notebooks(wheel: Path) -> None:
    """Every file of dynlab/ and of notebooks/ is in the wheel; no test and no other file is."""
    expected = {f"dynlab/{name}" for name in sources("dynlab")}
    expected |= {f"dynlab/_notebooks/{name}" for name in sources("notebooks")}

    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert expected == names
    assert "dynlab/py.typed" in names


def test_the_wheel_brings_its_command_and_its_licence(wheel: Path) -> None:
    """`dynlab` is a command, and the licence text travels along."""
    archive = zipfile.ZipFile(wheel)
    by_name = {PurePosixPath(name).name: name for name in archive.namelist() if ".dist-info/" in name}

    assert "dynlab = dynlab.cli:main" in archive.read(by_name["entry_points.txt"]).decode()
    assert "Apache License" in archive.read(by_name["LICENSE"]).decode()


def test_the_source_distribution_can_be_tested(dist: Path) -> None:
    """It holds tests, notebooks and the files that the tests read."""
    (built,) = dist.glob("dynlab-*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert set() == {"environment.yml", "Makefile", "pyproject.toml", "tests/conftest.py"} - names
    assert {f"notebooks/{name}" for name in sources("notebooks")} <= names


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_installed_package_works_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    """Installed in an empty environment, it imports, finds nothing wrong, and draws a first picture."""
    python, command = str(installed / "python"), str(installed / "dynlab")

    where = run(python, "-c", "import dynlab; print(dynlab.__file__)", cwd=tmp_path)
    run(command, "doctor", cwd=tmp_path)
    printed = run(command, "hello", cwd=tmp_path)

    assert Path(where.strip()).is_relative_to(installed.parent)
    pictures = re.findall(r"\S+\.(?:png|svg|html)\b", printed)
    assert pictures, f"`dynlab hello` names no picture:\n{printed}"
    assert all((tmp_path / picture).is_file() for picture in pictures), f"{pictures} in:\n{printed}"
