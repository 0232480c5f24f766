"""The doctor's findings, and what each says to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import socket

import pytest
from packaging.requirements import Requirement

from dynlab import doctor as room
from dynlab.doctor import Finding, Report, doctor


def test_a_machine_that_runs_the_tests_is_healthy() -> None:
    """Where the tests run, nothing that is needed is missing, and the graph has answered."""
    report = doctor()

    assert report.healthy, repr(report)
    assert "answered in" in next(f.found for f in report.findings if f.what == "the graph")


def test_a_package_out_of_range_is_named_with_its_repair() -> None:
    """A version outside the range is missing, and the repair installs one inside it."""
    version = importlib.metadata.version("pytest")

    found = room._package(Requirement("pytest>=999"))

    assert Finding("pytest", "missing", f"{version}, but >=999 is needed", "pip install 'pytest>=999'") == found


def test_a_package_that_is_not_installed_is_missing() -> None:
    """The repair is the command to type."""
    found = room._package(Requirement("no-such-package>=1"))

    assert Finding("no-such-package", "missing", "not installed", "pip install 'no-such-package>=1'") == found


def test_without_the_real_engine_the_rest_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing engine is a limit, not a fault; another platform is told that there is no wheel for it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "dynamo" else real(name, *rest)
    )
    monkeypatch.setattr(room.sys, "platform", "darwin")
    monkeypatch.setattr(room.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(room.platform, "machine", lambda: "arm64")

    (found,) = room._engine()

    assert ("limited", "ai-dynamo-runtime has no wheel for Darwin arm64") == (found.state, found.found)
    assert Report([found]).healthy


def test_a_machine_that_may_not_listen_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port, no tutorial: the report is not healthy, and says what was refused."""

    def refuse(host: str, port: int) -> socket.socket:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(room, "bind", refuse)

    (found,) = room._port()

    assert ("missing", "Operation not permitted") == (found.state, found.found)
    assert not Report([found]).healthy


def test_the_report_shows_itself_in_both_places() -> None:
    """Text and HTML carry state, finding and repair; nothing of it is taken for markup."""
    report = Report([Finding("a <b>", "missing", "x & y", "do <this>")])

    assert "✗ missing  a <b>" in repr(report)
    assert "-> do <this>" in repr(report)
    assert "a &lt;b&gt;" in report._repr_html_()
    assert "do &lt;this&gt;" in report._repr_html_()
