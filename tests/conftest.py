"""What every test gets: nothing is left behind, and what a machine lacks is said aloud."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

REQUIRE_ALL = "DYNLAB_REQUIRE_ALL"
"""Set in the environment, it turns every skip for something missing into a failure; CI sets it."""
JOIN_S = 5.0
"""How long a thread may take to end after its test."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


# ---------------------------------------------------------------------------- on several cores


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, for what they share; notebooks share nothing, and take the longest.

    A scheduler, not `xdist_group` marks: these end up in test names, which pytest 9.2 no longer lets them change.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return nodeid if file.endswith("test_notebooks.py") else file

    return ByFile(config, log)


# ---------------------------------------------------------------------------- nothing is left behind


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a `dynlab-` thread running, a loop or socket unclosed, or an error unseen."""
    # Threads of a deployment that a whole module shares are there already, and are not this test's.
    before = set(threading.enumerate())
    # What exists now is no concern of the collection below, which then takes ten milliseconds, not a hundred.
    gc.freeze()
    with _errors_nobody_saw() as unseen:
        yield

        survivors = _survivors(before)
        # What was dropped unclosed warns here, in the test that dropped it; pytest turns the warning into an error.
        gc.collect()
        gc.unfreeze()
    if survivors:
        pytest.fail(f"still running {JOIN_S:g} s after the test:\n\n{_stacks(survivors)}", pytrace=False)
    if unseen and request.node.get_closest_marker("errors_expected") is None:
        pytest.fail("errors that nobody saw:\n\n" + "\n".join(unseen), pytrace=False)


@contextmanager
def _errors_nobody_saw() -> Iterator[list[str]]:
    """Collect what asyncio logs for want of a listener, as "Task exception was never retrieved"."""
    unseen: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: unseen.append(logging.Formatter().format(record))
    loggers = [logging.getLogger(name) for name in ("asyncio", "dynlab.runtime")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield unseen
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _survivors(before: set[threading.Thread]) -> list[threading.Thread]:
    """Wait for the threads of this test, all together `JOIN_S` at most; return those that still run."""
    deadline = time.monotonic() + JOIN_S
    started = [t for t in threading.enumerate() if t.name.startswith("dynlab-") and t not in before]
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in started if thread.is_alive()]


def _stacks(threads: list[threading.Thread]) -> str:
    frames = sys._current_frames()
    return "\n".join(
        f"{thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threads
        if thread.ident in frames
    )


# ---------------------------------------------------------------------------- what this machine lacks


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where what it needs is missing, or fail it where nothing may be skipped."""
    if reason := _lacking(item):
        _unavailable(reason)


def _lacking(item: pytest.Item) -> str | None:
    """Name the first thing that a test's marks ask for and this machine has not."""
    if item.get_closest_marker("needs_real_engine") and not _has_real_engine():
        return "the real engine is not installed: pip install 'dynlab[dynamo]' (Linux only)"
    if item.get_closest_marker("needs_browser"):
        if importlib.util.find_spec("playwright") is None:
            return "playwright is not installed: pip install 'dynlab[test]'"
        if _find_browser() is None:
            return f"no browser: none of {', '.join(BROWSERS)} is on PATH"
    for mark in item.iter_markers("needs_programs"):
        for name in mark.args:
            if shutil.which(name) is None:
                return f"{name} is not on PATH"
    return None


def _has_real_engine() -> bool:
    # By its distribution: `import dynamo.sdk` may resolve to dynlab itself.
    try:
        importlib.metadata.version("ai-dynamo-runtime")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(f"{reason} ({REQUIRE_ALL} is set, so this is no skip)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Return the function a test calls with a reason when it finds out only while running that it cannot run."""
    return _unavailable


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Return the chromium of this machine, for tests marked `needs_browser`."""
    path = _find_browser()
    assert path is not None, "mark the test needs_browser"
    return path
