"""Every room says what it is for, shows what it offers, and keeps to the rules a reader relies on."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dynlab"
MODULES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))

FORBIDDEN = {
    "asyncio.run": "a notebook's loop already runs; use a LoopThread, or `await` in a cell",
    "run_until_complete": "a notebook's loop already runs; use a LoopThread, or `await` in a cell",
    "uvicorn.run": "it never returns, and takes the process with it when the port is busy; use serve()",
    "time.sleep": "wait for an event, or on the Clock",
    "print": "a thread's print lands in whatever cell runs next; return it, or log it",
    "matplotlib.pyplot": "its figures are global and belong to one thread; draw on a Figure",
    "0.0.0.0": "a notebook's server is for this machine: 127.0.0.1",
    "!pip": "the environment comes from environment.yml or `make lab`, not from a cell",
    "%matplotlib": "figures show themselves; no backend is chosen",
}
"""What code may not do, and what it does instead. Prose and docstrings may name all of it."""

ALLOWED = {
    "dynlab/cli.py": {"print"},
    "dynlab/lessons/computing.py": {"time.sleep"},  # its workers are meant to block their threads
    "dynlab/runtime/loops.py": {"run_until_complete"},  # ends the loop of a thread that is about to go
    "notebooks/": {"print"},
}
"""Where a rule does not hold, by the beginning of the path."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------------------- rooms


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_begins_with_a_sentence(path: Path) -> None:
    """The first line of each module is a docstring that ends in a full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""

    assert re.fullmatch(r"\S.*[.?!]\"?", docstring.partition("\n")[0]), "say in one line what this room is for"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_shows_what_it_offers(path: Path, unavailable: Callable[[str], NoReturn]) -> None:
    """`__all__` is a tuple of names that exist; a room's empty `__init__` and `__main__` have none."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path.name == "__main__.py" or (path.name == "__init__.py" and len(body) <= 1):
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "dynamo":
            raise
        unavailable(f"{name} needs the real engine")

    names = getattr(module, "__all__", None)

    assert isinstance(names, tuple), f"{name} has no `__all__` tuple"
    assert [] == [shown for shown in names if not hasattr(module, shown)]


def test_import_dynlab_loads_nothing_heavy() -> None:
    """The front door opens at once: figures, widgets, IPython, NumPy, the HTTP client and YAML load on first use."""
    heavy = {"IPython", "anywidget", "httpx", "ipywidgets", "jupyterlab", "matplotlib", "numpy", "prometheus_client"}
    heavy |= {"rich", "yaml"}
    assert (PACKAGE / "__init__.py").is_file()

    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, dynlab; print(*sorted(sys.modules))"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert set() == heavy & {name.partition(".")[0] for name in loaded}, loaded


# ---------------------------------------------------------------------------- rules


@pytest.mark.parametrize("path", [*MODULES, *NOTEBOOKS], ids=relative)
def test_code_keeps_to_the_rules(path: Path) -> None:
    """No module and no cell does what `FORBIDDEN` names, but where `ALLOWED` says so."""
    allowed = {rule for prefix, rules in ALLOWED.items() if relative(path).startswith(prefix) for rule in rules}

    broken = {rule: line for source in sources(path) for rule, line in uses(source) if rule not in allowed}

    assert {} == {f"{rule} in `{line}`": FORBIDDEN[rule] for rule, line in broken.items()}


def sources(path: Path) -> Iterator[str]:
    """Yield a module, or each code cell of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield text
        return
    for cell in json.loads(text).get("cells", []):
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def uses(source: str) -> Iterator[tuple[str, str]]:
    """Yield each forbidden thing that code does, and the line that does it."""
    lines = source.splitlines()
    if source.lstrip().startswith("%%"):  # a cell in another language
        return
    for number, line in enumerate(lines):
        if shell := re.match(r"\s*[!%]\s*(pip|matplotlib)\b", line):
            yield ("!pip" if shell[1] == "pip" else "%matplotlib"), line
        if re.match(r"\s*[!%]", line):
            lines[number] = re.sub(r"[!%].*", "pass", line)
    for node in ast.walk(ast.parse("\n".join(lines))):
        for rule in FORBIDDEN:
            if _does(node, rule):
                yield rule, lines[node.lineno - 1].strip()


def _does(node: ast.AST, rule: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name == rule
        case ast.Call(func=ast.Attribute(attr=name) as function):
            return rule in (name, ast.unparse(function)) and rule != "print"
        case ast.Import(names=names):
            return any(alias.name == rule for alias in names)
        case ast.ImportFrom(module=module, names=names):
            return module == rule or any(f"{module}.{alias.name}" == rule for alias in names)
        case ast.Constant(value=str(value)):
            return value == rule == "0.0.0.0"
    return False


# ---------------------------------------------------------------------------- words


def committed() -> list[Path]:
    """Return what git tracks or would track; without git, what a source distribution holds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [path for top in ("dynlab", "notebooks", "tests") for path in (ROOT / top).rglob("*.*") if path.is_file()]


def test_no_file_names_one_machine() -> None:
    """No committed file holds a path of somebody's machine or the host of a package registry."""
    hosts = "|".join(rf"\b{name}\.(?:org|com)\b" for name in ("pypi", "pythonhosted", "npmjs", "anaconda"))
    foreign = re.compile(rf"(?<![\w.~-])/(?:work|root|tmp|home/\w+|Users/\w+)/|{hosts}")

    found = {}
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        if hit := foreign.search(text):
            found[relative(path)] = text[max(0, hit.start() - 30) : hit.end() + 30]

    assert {} == found
