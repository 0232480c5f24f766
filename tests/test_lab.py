"""`dynlab lab`: which notebooks it opens, how, and that it stops."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from dynlab import lab
from dynlab.errors import DynlabError
from dynlab.serving.server import bind
from tests.commands import ROOT, WAIT_S, running


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have dynlab believe that it is installed, with two notebooks; return the folder it is used from."""
    package = tmp_path / "site" / "dynlab"
    (package / "_notebooks" / "images").mkdir(parents=True)
    (package / "_notebooks" / "00_start_here.ipynb").write_text("new")
    (package / "_notebooks" / "images" / "a.svg").write_text("new")
    monkeypatch.setattr(lab, "_PACKAGE", package)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_lab_answers_at_the_address_it_prints_until_it_is_stopped(number: int, tmp_path: Path) -> None:
    """The address leads to the first notebook; one signal ends the server, and leaves none behind."""
    with bind("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    with running("lab", "--no-browser", "--port", port, cwd=tmp_path) as command:
        address = command.wait_for(r"http://127\.0\.0\.1:\d+/lab/tree/00_start_here.ipynb\?token=\w+")
        base, _, token = address.partition("/lab/tree/00_start_here.ipynb?token=")

        for path, key in (("api/status", "started"), ("api/contents/00_start_here.ipynb?content=0", "path")):
            request = urllib.request.Request(f"{base}/{path}", headers={"Authorization": f"token {token}"})
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                assert key in json.load(response)

        assert 0 == command.stop(number), command.output
        with bind("127.0.0.1", int(base.rpartition(":")[2])):  # nobody listens there any more
            pass


def test_a_checkout_opens_its_own_notebooks(tmp_path: Path) -> None:
    """Nothing is copied where the notebooks stand next to the package."""
    said: list[str] = []

    assert ROOT / "notebooks" == lab.find_notebooks(tmp_path, said.append)
    assert ([], []) == (said, list(tmp_path.iterdir()))


def test_the_notebooks_of_a_wheel_are_copied_and_never_overwritten(wheel: Path) -> None:
    """What a learner has changed stays; what is new is added, and it is said."""
    mine = wheel / "dynlab-notebooks"
    mine.mkdir()
    (mine / "00_start_here.ipynb").write_text("mine")
    said: list[str] = []

    assert mine == lab.find_notebooks(wheel, said.append)
    assert ["mine", "new"] == [(mine / name).read_text() for name in ("00_start_here.ipynb", "images/a.svg")]
    assert [f"Copied 1 files to {mine}; what was there already is left as it was."] == said


def test_a_folder_that_takes_no_files_is_one_sentence(wheel: Path) -> None:
    """The reason is the system's, and so is what to do about it."""
    (wheel / "dynlab-notebooks").write_text("a file in the way")

    with pytest.raises(DynlabError, match=r"cannot be copied to .*: .+\. Go to a folder of your own first"):
        lab.find_notebooks(wheel, lambda _: None)


def test_a_wheel_without_notebooks_is_damaged(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to install it again."""
    monkeypatch.setattr(lab, "_PACKAGE", wheel)

    with pytest.raises(DynlabError, match="pip install --force-reinstall dynlab"):
        lab.find_notebooks(wheel, lambda _: None)


def test_without_jupyterlab_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python that lacks it is named."""
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DynlabError, match=r"JupyterLab is not installed for .* pip install jupyterlab"):
        lab.open_lab(8888, False, [], lambda _: None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(("display", "found", "opens"), [("", True, False), (":0", False, False), (":0", True, True)])
def test_a_browser_opens_where_there_is_one(
    display: str, found: bool, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a display, or without a browser, the address is printed instead, and that is said."""
    for name in ("WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", display)

    def get() -> None:
        if not found:
            raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(lab.webbrowser, "get", get)
    said: list[str] = []

    command = lab.lab_command(Path("notebooks"), 9000, True, ["--ServerApp.token=x"], said.append)

    assert opens == ("--no-browser" not in command)
    assert opens == (not any(line.startswith("No browser opens here") for line in said))
    assert "--ServerApp.token=x" == command[-1]
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.port=9000"} < set(command)


@pytest.mark.skipif(os.name != "posix", reason="there is no root")
@pytest.mark.parametrize("user", [0, 1000])
def test_root_is_allowed_and_told(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root gets --allow-root, with a sentence why."""
    monkeypatch.setattr(lab.os, "geteuid", lambda: user)
    said: list[str] = []

    command = lab.lab_command(Path("notebooks"), 9000, False, [], said.append)

    assert (user == 0) == ("--allow-root" in command) == any("You are root" in line for line in said)
