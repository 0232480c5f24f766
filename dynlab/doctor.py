"""What works on this machine, and how to mend the rest: `dynlab doctor`, and the first cell of the tutorial."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from packaging.requirements import Requirement

from dynlab.hello_world import Frontend
from dynlab.runtime.loops import LoopThread
from dynlab.serving.serve import serve
from dynlab.serving.server import bind

__all__ = ("Finding", "Report", "doctor")

OK, LIMITED, MISSING = "ok", "limited", "missing"
_MARKS = {OK: "✓", LIMITED: "~", MISSING: "✗"}
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. `repair` says what to do unless `state` is ok; limited means: works without it."""

    what: str
    state: str
    found: str
    repair: str = ""
    is_package: bool = False


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
        # A long list of packages that are as they should be would hide the one line that is not.
        fine = [f for f in self.findings if f.is_package and f.state == OK]
        shown = [f for f in self.findings if f not in fine]
        names = escape(", ".join(f"{f.what} {f.found}" for f in fine))
        if fine:
            shown.insert(1, Finding("packages", OK, f"{len(fine)} are as they should be"))
        folded = f"<details><summary>The packages</summary>{names}</details>" if fine else ""
        return f"<table><caption>dynlab on this machine</caption>{''.join(map(_row, shown))}</table>{folded}"


def _row(f: Finding) -> str:
    cell = "text-align:left;vertical-align:top"
    return (
        f'<tr><td style="{cell}">{_MARKS[f.state]} {f.state}</td>'
        f'<th scope="row" style="{cell}">{escape(f.what)}</th>'
        f'<td style="{cell}">{escape(f.found)}{f"<br>{escape(f.repair)}" if f.repair else ""}</td></tr>'
    )


def doctor() -> Report:
    """Try everything that the tutorial needs. Takes a second or two; starts and closes a small graph."""
    checks: list[tuple[str, Callable[[str], Iterator[Finding]], str]] = [
        ("Python", _python, ""),
        ("packages", _packages, "pip install dynlab"),
        ("widgets", _widgets, "pip install -U ipywidgets jupyterlab_widgets, and restart JupyterLab"),
        ("a free port", _port, "Allow this program to listen on 127.0.0.1."),
        ("a thread with a loop", _thread, "Raise the limit of threads (ulimit -u), or close other programs."),
        ("the graph", _graph, "Mend what is missing above; if nothing is, please report this line."),
        ("a picture", _picture, "pip install -U matplotlib"),
        ("the real engine", _engine, ""),
        ("uvloop", _uvloop, ""),
    ]
    return Report([finding for what, check, repair in checks for finding in _tried(what, check, repair)])


def _tried(what: str, check: Callable[[str], Iterator[Finding]], repair: str) -> Iterator[Finding]:
    """Run one check; whatever it raises is its finding, and the other checks go on."""
    try:
        yield from check(what)
    except Exception as error:
        yield Finding(what, MISSING, f"{type(error).__name__}: {error}", repair)


def _python(what: str) -> Iterator[Finding]:
    # An older Python could not even have read this file.
    yield Finding(what, OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages(_: str) -> Iterator[Finding]:
    try:
        required = importlib.metadata.requires("dynlab") or []
        yield Finding("dynlab", OK, importlib.metadata.version("dynlab"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("dynlab", LIMITED, "runs from a folder, not installed", f"pip install -e {_ROOT}")
        with (_ROOT / "pyproject.toml").open("rb") as file:
            required = tomllib.load(file)["project"]["dependencies"]
    for line in required:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    name, needed = requirement.name, f" ({requirement.specifier})" if requirement.specifier else ""
    repair = f"pip install '{requirement}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, MISSING, f"not installed{needed}", repair)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(name, MISSING, f"{version}, but {requirement.specifier} is needed", repair)
    return Finding(name, OK, f"{version}{needed}", is_package=True)


def _widgets(what: str) -> Iterator[Finding]:
    # Two halves that must both be there: Python's, and JupyterLab's, which draws.
    halves = [f"{name} {importlib.metadata.version(name)}" for name in ("ipywidgets", "jupyterlab_widgets")]
    yield Finding(what, OK, ", ".join(halves))


def _port(what: str) -> Iterator[Finding]:
    with bind("127.0.0.1", 0) as sock:
        yield Finding(what, OK, f"127.0.0.1:{sock.getsockname()[1]}")


def _thread(what: str) -> Iterator[Finding]:
    thread = LoopThread("dynlab-doctor")
    thread.start()
    try:
        thread.submit(asyncio.sleep(0)).result(5.0)
    finally:
        thread.stop()
        thread.join(5.0)
    yield Finding(what, OK, f"runs {type(thread.loop).__module__.partition('.')[0]}'s loop")


def _graph(what: str) -> Iterator[Finding]:
    with serve(Frontend, workers={"DummyWorker": 2}, name="dynlab doctor") as deployment:
        deployment.ask("warm up")
        deployment.ask("how are you", request_id="doctor")
        took = deployment.traces["doctor"].duration_ms
        threads = len(deployment.instances)
    yield Finding(what, OK, f"answered in {took:.1f} ms over {threads} threads")


def _picture(what: str) -> Iterator[Finding]:
    # Late, so that a broken matplotlib is a finding.
    from dynlab.views.pictures import overview_picture  # noqa: PLC0415

    overview_picture({}).svg()
    yield Finding(what, OK, "can be drawn")


def _engine(what: str) -> Iterator[Finding]:
    try:
        version = importlib.metadata.version("ai-dynamo-runtime")
    except importlib.metadata.PackageNotFoundError:
        if sys.platform == "linux" and re.match(r"x86_64|aarch64|arm64", platform.machine()):
            found, repair = "not installed; dynlab's own runtime works without it", "pip install 'dynlab[dynamo]'"
        else:
            here = f"{platform.system()} {platform.machine()}"
            found, repair = f"ai-dynamo-runtime has no wheel for {here}", "It needs Linux on x86_64 or arm64."
        yield Finding(what, LIMITED, found, repair)
        return
    # In a process of its own: a wheel built for another machine can take the whole process with it.
    command = [sys.executable, "-c", "import dynamo._core"]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if tried.returncode == 0:
        yield Finding(what, OK, f"ai-dynamo-runtime {version}")
    else:
        said = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]
        yield Finding(
            what,
            LIMITED,
            f"ai-dynamo-runtime {version} cannot be imported: {said}",
            "pip install --force-reinstall 'dynlab[dynamo]'",
        )


def _uvloop(what: str) -> Iterator[Finding]:
    if importlib.util.find_spec("uvloop") is not None:
        yield Finding(what, OK, importlib.metadata.version("uvloop"))
    else:
        yield Finding(what, LIMITED, "not here (Windows has none); threads use asyncio's loop", "Nothing to do.")
