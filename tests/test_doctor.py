"""The doctor's findings, and what each says to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from packaging.requirements import Requirement

from dynlab import doctor as room
from dynlab.doctor import Finding, Report, doctor

Versions = Callable[..., None]


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Versions:
    """Return a function that says which versions are installed; None takes a package away."""

    def pretend(**known: str | None) -> None:
        real = importlib.metadata.version

        def version(name: str) -> str:
            found = known.get(name.replace("-", "_"), real)
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found if isinstance(found, str) else real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def test_a_machine_that_runs_the_tests_is_healthy() -> None:
    """Where the tests run nothing is missing; the graph has answered, and every required package is listed."""
    report = doctor()

    found = {finding.what: finding.found for finding in report.findings}
    assert report.healthy, repr(report)
    assert "answered in" in found["the graph"]
    assert {"fastapi", "ipykernel", "jupyterlab", "widgets", "a free port", "a thread with a loop"} < found.keys()
    assert {"a picture", "the real engine", "uvloop"} < found.keys()
    assert importlib.metadata.version("fastapi") in found["fastapi"]


def test_what_is_not_ok_says_what_to_do() -> None:
    """No finding but the good ones comes without a repair."""
    assert [] == [f for f in doctor().findings if (f.state == "ok") == bool(f.repair)]


def test_a_package_out_of_range_is_named_with_its_repair(versions: Versions) -> None:
    """ipykernel 7.0 breaks threads: it is refused, the one before and the one after are not."""
    required = Requirement("ipykernel!=7.0.*,>=6.29")
    states = {}
    for version in ("6.29.5", "7.0.0", "7.0.1", "7.1.0"):
        versions(ipykernel=version)
        states[version] = room._package(required).state
    versions(ipykernel="7.0.1")

    assert {"6.29.5": "ok", "7.0.0": "missing", "7.0.1": "missing", "7.1.0": "ok"} == states
    assert Finding(
        "ipykernel",
        "missing",
        "7.0.1, but !=7.0.*,>=6.29 is needed",
        "pip install 'ipykernel!=7.0.*,>=6.29'",
    ) == room._package(required)


def test_a_package_that_is_not_installed_is_missing() -> None:
    """The repair is the command to type."""
    found = room._package(Requirement("no-such-package>=1"))

    assert Finding("no-such-package", "missing", "not installed (>=1)", "pip install 'no-such-package>=1'") == found


def test_an_installed_dynlab_knows_what_it_requires(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is that of the installed package; what only an extra needs is left out."""
    versions(dynlab="9.9")
    required = ["packaging>=24", "no-such-package>=1; extra == 'test'", "also-none; python_version < '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: required)

    assert [("dynlab", "9.9"), ("packaging", f"{importlib.metadata.version('packaging')} (>=24)")] == [
        (finding.what, finding.found) for finding in room._packages("packages")
    ]


def test_half_the_widgets_are_none(versions: Versions) -> None:
    """Without JupyterLab's half, panels would stay empty."""
    versions(jupyterlab_widgets=None)

    (found,) = room._tried("widgets", room._widgets, "pip install it")

    assert ("missing", "pip install it") == (found.state, found.repair)
    assert "jupyterlab_widgets" in found.found


@pytest.mark.parametrize(
    ("system", "machine", "said"),
    [
        ("linux", "x86_64", "not installed; dynlab's own runtime works without it"),
        ("darwin", "arm64", "ai-dynamo-runtime has no wheel for Darwin arm64"),
        ("linux", "riscv64", "ai-dynamo-runtime has no wheel for Linux riscv64"),
    ],
)
def test_without_the_real_engine_the_rest_is_healthy(
    system: str, machine: str, said: str, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing engine is a limit, not a fault; where it has no wheel, that is said instead of a command."""
    versions(ai_dynamo_runtime=None)
    monkeypatch.setattr(room.sys, "platform", system)
    monkeypatch.setattr(room.platform, "system", lambda: system.capitalize())
    monkeypatch.setattr(room.platform, "machine", lambda: machine)

    (found,) = room._engine("the real engine")

    assert ("limited", said) == (found.state, found.found)
    assert Report([found]).healthy


@pytest.mark.parametrize(("body", "said"), [("raise ImportError('GLIBC_2.28 not found')", "GLIBC"), ("1", "1.6.1")])
def test_an_engine_that_cannot_be_imported_is_a_limit(
    body: str, said: str, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried in a process of its own, and its last words are shown."""
    versions(ai_dynamo_runtime="1.6.1")
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **kw: real([sys.executable, "-c", body], **kw))

    (found,) = room._engine("the real engine")

    assert said in found.found
    assert ("limited" if "raise" in body else "ok") == found.state


def test_a_machine_that_may_not_listen_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port, no tutorial: the report is not healthy, and says what was refused."""

    def refuse(host: str, port: int) -> socket.socket:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(room, "bind", refuse)

    found = next(finding for finding in doctor().findings if finding.what == "a free port")

    assert ("missing", "PermissionError: Operation not permitted") == (found.state, found.found)
    assert "127.0.0.1" in found.repair
    assert not Report([found]).healthy


def test_a_machine_without_threads_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is a finding; the doctor goes on with the next check."""

    def refuse(name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(room, "LoopThread", refuse)

    found = {finding.what: finding for finding in doctor().findings}

    assert "RuntimeError: can't start new thread" == found["a thread with a loop"].found
    assert "ulimit -u" in found["a thread with a loop"].repair
    assert ("missing", "ok") == (found["a thread with a loop"].state, found["a picture"].state)


def test_uvloop_is_a_matter_of_taste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it threads use asyncio's loop, and nothing needs to be done."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    (found,) = room._uvloop("uvloop")

    assert ("limited", "Nothing to do.") == (found.state, found.repair)


def test_whatever_a_check_raises_is_its_finding() -> None:
    """What was found before it stays."""

    def check(what: str) -> Iterator[Any]:
        yield Finding("first", "ok", "fine")
        raise ZeroDivisionError("by zero")

    assert [Finding("first", "ok", "fine"), Finding("it", "missing", "ZeroDivisionError: by zero", "mend it")] == list(
        room._tried("it", check, "mend it")
    )


def test_the_report_shows_itself_in_both_places() -> None:
    """Text and HTML carry state, finding and repair; nothing of it is taken for markup."""
    report = Report([Finding("a <b>", "missing", "x & y", "do <this>")])

    assert "✗ missing  a <b>" in repr(report)
    assert "-> do <this>" in repr(report)
    assert "a &lt;b&gt;" in report._repr_html_()
    assert "do &lt;this&gt;" in report._repr_html_()
