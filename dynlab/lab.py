"""`dynlab lab`: the tutorial in JupyterLab, from a checkout or from an installed wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dynlab.errors import DynlabError

__all__ = ("find_notebooks", "lab_command", "open_lab")

FIRST = "00_start_here.ipynb"
_PACKAGE = Path(__file__).resolve().parent


def find_notebooks(folder: Path, say: Callable[[str], Any]) -> Path:
    """Return where the notebooks can be opened and saved.

    In a checkout that is its `notebooks`; an installed package carries a copy, which is laid into
    `folder/dynlab-notebooks`, without touching what a learner has there.

    Raises:
        DynlabError: if this installation has no notebooks, or they cannot be copied.
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
    new = 0
    try:
        for source in carried.rglob("*"):
            goal = target / source.relative_to(carried)
            if source.is_file() and not goal.exists():
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, goal)
                new += 1
    except OSError as error:
        raise DynlabError(
            f"The notebooks cannot be copied to {target}: {error.strerror or error}. Go to a folder of your own first."
        ) from None
    say(f"Copied {new} files to {target}; what was there already is left as it was.")
    return target


def open_lab(port: int, browser: bool, more: Sequence[str], say: Callable[[str], Any]) -> int:
    """Run JupyterLab on the first notebook until it is stopped; returns its exit status.

    Raises:
        DynlabError: if JupyterLab or the notebooks are not there.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise DynlabError(f"JupyterLab is not installed for {sys.executable}. pip install jupyterlab")
    command = lab_command(find_notebooks(Path.cwd(), say), port, browser, more, say)
    sys.stdout.flush()
    if os.name == "posix":
        # In the place of this process, so that every signal reaches it and none can leave it behind.
        os.execv(command[0], command)
    with subprocess.Popen(command) as lab:
        while True:
            with suppress(KeyboardInterrupt):  # JupyterLab got it too, and stops
                return lab.wait()


def lab_command(notebooks: Path, port: int, browser: bool, more: Sequence[str], say: Callable[[str], Any]) -> list[str]:
    """Put JupyterLab's command line together, and say what a reader should know of it."""
    say(f"The tutorial: {notebooks / FIRST}")
    arguments = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={notebooks}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--ServerApp.answer_yes=True",  # one Ctrl-C is enough; without a terminal nobody could answer
        "--ServerApp.log_level=WARN",  # the address, and little else
    ]
    if not (browser and _has_browser()):
        arguments.append("--no-browser")
        say("No browser opens here: open the address below that begins with http://127.0.0.1 in yours.")
    if os.name == "posix" and os.geteuid() == 0:
        arguments.append("--allow-root")
        say("You are root, so JupyterLab runs as root too: it would refuse without --allow-root.")
    say("Ctrl-C stops it.")
    return [sys.executable, "-m", "jupyterlab", *arguments, *more]


def _has_browser() -> bool:
    """Tell whether a browser can open: on Linux one needs a display, and a text browser would fill the terminal."""
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
