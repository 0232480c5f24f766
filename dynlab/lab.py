"""`dynlab lab`: the tutorial in JupyterLab, from a checkout or from an installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dynlab.errors import DynlabError

__all__ = ("find_notebooks", "open_lab")

FIRST = "00_start_here.ipynb"
_PACKAGE = Path(__file__).resolve().parent


def find_notebooks(folder: Path) -> Path:
    """Return where the notebooks can be opened and saved.

    In a checkout that is its `notebooks`; an installed package carries a copy, which is laid into
    `folder/dynlab-notebooks`, without touching what a learner has changed there.

    Raises:
        DynlabError: if this installation has no notebooks.
    """
    checkout = _PACKAGE.parent / "notebooks"
    if (checkout / FIRST).exists():
        return checkout
    carried = _PACKAGE / "_notebooks"
    if not (carried / FIRST).exists():
        raise DynlabError(
            f"No notebooks in {carried}: this installation is damaged. pip install --force-reinstall dynlab"
        )
    target = folder / "dynlab-notebooks"
    for source in carried.rglob("*"):
        goal = target / source.relative_to(carried)
        if source.is_file() and not goal.exists():
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, goal)
    return target


def open_lab(port: int, browser: bool, more: Sequence[str], say: Callable[[str], Any]) -> int:
    """Run JupyterLab on the first notebook until it is stopped; returns its exit status."""
    notebooks = find_notebooks(Path.cwd())
    arguments = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={notebooks}"]
    if not (browser and _has_browser()):
        arguments.append("--no-browser")
        say("Open the address below that begins with http://127.0.0.1 in a browser.")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
        say("JupyterLab runs as root here, because you do.")
    say(f"The tutorial: {notebooks / FIRST}. Ctrl-C, twice, stops it.")
    command = [sys.executable, "-m", "jupyterlab", *arguments, *more, str(notebooks / FIRST)]
    with subprocess.Popen(command) as lab:
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:
                continue  # JupyterLab got it too, and asks whether it is meant


def _has_browser() -> bool:
    """Guess whether a browser window can open: elsewhere than on Linux it can, there it needs a display."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
