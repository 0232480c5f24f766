"""`environment.yml` (conda) and `pyproject.toml` (pip) ask for the same packages in the same versions."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

PIP_NAME = {
    "matplotlib-base": "matplotlib",  # without the Qt windows
    "msgpack-python": "msgpack",
    "prometheus_client": "prometheus-client",
    "python-xxhash": "xxhash",
    "uvicorn-standard": "uvicorn[standard]",
}
"""What conda-forge calls otherwise than pip does; every other name is the same."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return loaded


@pytest.fixture(scope="module")
def conda() -> list[Any]:
    loaded: list[Any] = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return loaded


def named(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return canonicalize_name(requirement.name) + extras


def conda_packages(conda: list[Any]) -> dict[str, SpecifierSet]:
    """Read conda's `name>=1,!=2.*`, which pip reads alike."""
    parsed = [Requirement(entry) for entry in conda if isinstance(entry, str)]
    return {PIP_NAME.get(requirement.name, requirement.name): requirement.specifier for requirement in parsed}


def test_conda_and_pip_ask_for_the_same_packages(project: dict[str, Any], conda: list[Any]) -> None:
    """Each dependency stands in both files, with the same range; conda has Python and pip on top."""
    pip = {named(req): req.specifier for req in map(Requirement, project["dependencies"])}
    pip |= {"python": SpecifierSet(project["requires-python"]), "pip": SpecifierSet()}

    assert pip == conda_packages(conda)


def test_conda_installs_this_checkout(conda: list[Any]) -> None:
    """dynlab itself comes by pip from the folder that holds environment.yml."""
    assert [{"pip": ["-e ."]}] == [entry for entry in conda if isinstance(entry, dict)]


def test_no_upper_bounds(project: dict[str, Any]) -> None:
    """A cap makes dynlab uninstallable beside newer packages; only the real engine is pinned."""
    capped = [
        text
        for text in project["dependencies"]
        if any(specifier.operator not in (">=", "!=") for specifier in Requirement(text).specifier)
    ]

    assert [] == capped
