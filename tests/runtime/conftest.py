"""Loops of both kinds, and instances on them that end with the test."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from dynlab.runtime import loops
from tests.runtime.cluster import Cluster


@pytest.fixture(params=["asyncio", "uvloop"])
def each_loop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, unavailable: Callable[[str], NoReturn]
) -> str:
    """Run the test once with threads on asyncio's loop and once on uvloop's."""
    if request.param == "asyncio":
        monkeypatch.setattr(loops, "_new_loop", asyncio.new_event_loop)
    elif importlib.util.find_spec("uvloop") is None:
        unavailable("uvloop is not installed (it does not exist for Windows)")
    return str(request.param)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start with no workers; those that the test starts are closed after it."""
    cluster = Cluster()
    yield cluster
    cluster.close()
