"""What works on this machine, and how to mend the rest: `dynlab doctor`, and the first cell of the tutorial."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from packaging.requirements import Requirement

from dynlab.errors import DynlabError
from dynlab.hello_world import Frontend
from dynlab.serving.deployment import serve
from dynlab.serving.server import bind

__all__ = ("Finding", "Report", "doctor")

OK, LIMITED, MISSING = "ok", "limited", "missing"
_MARKS = {OK: "✓", LIMITED: "~", MISSING: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. `repair` says what to do unless `state` is ok; limited means: works without it."""

    what: str
    state: str
    found: str
    repair: str = ""


class Report:
    """All findings; shows itself as a table in a terminal and in a notebook."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    @property
    def healthy(self) -> bool:
        """True unless something is missing that the tutorial cannot do without."""
        return all(finding.state != MISSING for finding in self.findings)

    def __repr__(self) -> str:
        width = max(len(finding.what) for finding in self.findings)
        lines = []
        for f in self.findings:
            lines.append(f"{_MARKS[f.state]} {f.state:<8} {f.what:<{width}}  {f.found}")
            if f.repair:
                lines.append(f"  {'':<8} {'':<{width}}  -> {f.repair}")
        lines.append("Everything that is needed works." if self.healthy else "Something that is needed does not work.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cell = "text-align:left;vertical-align:top"
        rows = "".join(
            f'<tr><td style="{cell}">{_MARKS[f.state]} {f.state}</td>'
            f'<th scope="row" style="{cell}">{escape(f.what)}</th>'
            f'<td style="{cell}">{escape(f.found)}{f"<br>{escape(f.repair)}" if f.repair else ""}</td></tr>'
            for f in self.findings
        )
        return f"<table><caption>dynlab on this machine</caption>{rows}</table>"


def doctor() -> Report:
    """Try everything that the tutorial needs. Takes about a second; starts and closes a small graph."""
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _packages, _port, _graph, _engine, _accelerator]
    return Report([finding for check in checks for finding in check()])


def _python() -> Iterator[Finding]:
    # An older Python could not even have read this file.
    yield Finding("Python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    try:
        required = importlib.metadata.requires("dynlab") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("dynlab", LIMITED, "runs from a folder, not installed", "pip install -e . in that folder.")
        return
    for line in required:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    name = requirement.name
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, MISSING, "not installed", f"pip install '{requirement}'")
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(
            name, MISSING, f"{version}, but {requirement.specifier} is needed", f"pip install '{requirement}'"
        )
    return Finding(name, OK, version)


def _port() -> Iterator[Finding]:
    try:
        with bind("127.0.0.1", 0) as sock:
            yield Finding("a free port", OK, f"127.0.0.1:{sock.getsockname()[1]}")
    except OSError as error:
        yield Finding("a free port", MISSING, str(error), "Allow this program to listen on 127.0.0.1.")


def _graph() -> Iterator[Finding]:
    try:
        with serve(Frontend, workers={"DummyWorker": 2}, name="dynlab doctor") as deployment:
            deployment.ask("warm up")
            deployment.ask("how are you", request_id="doctor")
            took = deployment.traces["doctor"].duration_ms
            threads = len(deployment.instances)
        yield Finding("the graph", OK, f"answered in {took:.1f} ms over {threads} threads")
    except (DynlabError, OSError) as error:
        yield Finding("the graph", MISSING, str(error), "Please report this with the lines above.")


def _engine() -> Iterator[Finding]:
    what = "the real engine"
    if importlib.util.find_spec("dynamo") is not None:
        try:
            version = importlib.metadata.version("ai-dynamo-runtime")
            yield Finding(what, OK, f"ai-dynamo-runtime {version}")
            return
        except importlib.metadata.PackageNotFoundError:
            pass
    if sys.platform == "linux" and re.match(r"x86_64|aarch64|arm64", platform.machine()):
        yield Finding(what, LIMITED, "not installed; only the lessons on it need it", "pip install 'dynlab[dynamo]'")
    else:
        here = f"{platform.system()} {platform.machine()}"
        yield Finding(what, LIMITED, f"ai-dynamo-runtime has no wheel for {here}", "Those lessons need Linux.")


def _accelerator() -> Iterator[Finding]:
    if importlib.util.find_spec("uvloop") is not None:
        yield Finding("uvloop", OK, importlib.metadata.version("uvloop"))
    else:
        yield Finding("uvloop", LIMITED, "not here (Windows has none); threads use asyncio's loop", "Nothing to do.")
