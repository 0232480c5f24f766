"""The notebooks in a real JupyterLab and a real browser: what a reader sees, presses, and runs again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynlab.serving.server import bind

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.needs_browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCREENSHOTS = "DYNLAB_SCREENSHOTS"
"""Set in the environment, it names the folder that keeps the screenshots."""
WAIT_S = 60.0
BROWSER_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update"]  # fmt: skip
SETTINGS = {
    # Nothing over the page that asks about news, and nothing that looks for them.
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    # Every cell stands in the page, also those out of view, so that every output is looked at.
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}
VIEWPORT = {"width": 1250, "height": 1000}
FAILED = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"

# ---------------------------------------------------------------------------- a server, a browser, a page

STARTED = "window.jupyterapp?.shell.currentWidget"
OPEN = "path => { window.jupyterapp.commands.execute('docmanager:open', {path}) }"
OPENED = "window.jupyterapp.shell.currentWidget?.context?.path === '{name}'"
READY = "window.jupyterapp.shell.currentWidget?.sessionContext?.isReady === true"
IDLE = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
CODE_CELLS = "window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === 'code')"
CLOSE = """async () => {
    const notebook = window.jupyterapp.shell.currentWidget;
    await notebook.sessionContext.shutdown();
    notebook.dispose();  // without a question about what is not saved
}"""
PICTURES_LOADED = "[...document.querySelectorAll('.jp-OutputArea img')].every(i => i.complete && i.naturalWidth > 0)"
AT_THE_TOP = """[...document.querySelectorAll('.jp-NotebookPanel *')].every(part => {
    if (part.scrollTop > 0) part.scrollTop = 0;
    return part.scrollTop === 0;
})"""
HEIGHT = "Math.max(...[...document.querySelectorAll('.jp-NotebookPanel *')].map(part => part.scrollHeight))"


class Lab:
    """A notebook open in JupyterLab; `said` is what the browser's console had of errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.listeners: dict[str, Callable[[Any], None]] = {
            "console": lambda message: self.said.append(message.text) if message.type == "error" else None,
            "pageerror": lambda error: self.said.append(str(error)),
        }

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(f"() => {condition}", timeout=WAIT_S * 1000)

    def run_all(self) -> None:
        """Run all cells, until each has its number and the kernel has nothing left to do."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        self.wait(f"{CODE_CELLS}.every(cell => cell.model.executionCount !== null) && {IDLE}")

    def failures(self) -> list[str]:
        """Return the errors and the lines on stderr that the outputs show."""
        return self.page.locator(FAILED).all_inner_texts()

    def screenshot(self, folder: Path, name: str) -> None:
        """Save the whole notebook as one picture."""
        self.page.set_viewport_size(VIEWPORT | {"height": 200 + self.page.evaluate(HEIGHT)})
        self.wait(AT_THE_TOP)
        self.page.screenshot(path=folder / f"{name}.png")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run JupyterLab on a copy of the notebooks, with nobody's settings; return where it answers."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    for name, text in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    folders = {
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
    }
    environment = os.environ | {key: str(home / name) for key, name in folders.items()} | {"PYTHONPATH": str(ROOT)}
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *(["--allow-root"] if os.name == "posix" and os.geteuid() == 0 else []),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={home / 'notebooks'}",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
    ]
    log = home / "lab.log"
    with log.open("wb") as out:
        lab = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + WAIT_S
        while not _answers(f"{url}/api/status"):
            assert lab.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        lab.terminate()  # it ends its kernels before itself
        try:
            lab.wait(WAIT_S)
        finally:
            lab.kill()
            lab.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def page(address: str, browser_path: str) -> Iterator[Page]:
    """Run one chromium for this module, with JupyterLab open in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_ARGS)
        page = chromium.new_page(viewport=VIEWPORT)
        page.goto(f"{address}/lab?reset")
        page.wait_for_function(f"() => {STARTED}", timeout=WAIT_S * 1000)
        yield page
        chromium.close()


Open = Callable[[str], AbstractContextManager[Lab]]


@pytest.fixture
def opened(page: Page) -> Open:
    """Return what opens a notebook with a kernel of its own, and ends both."""

    @contextmanager
    def open_notebook(name: str) -> Iterator[Lab]:
        lab = Lab(page)
        for event, listener in lab.listeners.items():
            page.on(event, listener)
        page.set_viewport_size(VIEWPORT)
        page.evaluate(OPEN, name)
        try:
            lab.wait(OPENED.format(name=name))
            lab.wait(READY)
            yield lab
        finally:
            page.evaluate(CLOSE)
            for event, listener in lab.listeners.items():
                page.remove_listener(event, listener)

    return open_notebook


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Return the folder for screenshots."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# ---------------------------------------------------------------------------- what a reader sees


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_cells_run_and_every_picture_has_words(path: Path, opened: Open, screenshots: Path) -> None:
    """Run All shows no error and no stderr, the console has no error, and each picture loads and has a text."""
    with opened(path.name) as lab:
        lab.run_all()
        lab.wait(PICTURES_LOADED)
        lab.screenshot(screenshots, path.stem)
        outputs = lab.page.locator(".jp-OutputArea-output")
        texts = [picture.get_attribute("alt") for picture in outputs.locator("img").all()]

        assert [] == lab.failures()
        assert [] == lab.said
        assert outputs.count() > 0
        assert all(text and text.strip() for text in texts), texts
        assert len(texts) == outputs.locator("figure").count()
        assert 0 == outputs.locator("svg").count()  # it would be a picture without a text


# ---------------------------------------------------------------------------- what a reader presses

WATCH = """panel => {
    window.seen = [];
    window.watching?.disconnect();
    const look = () => {
        const status = panel.querySelector('[role=status]')?.textContent ?? '';
        const bars = panel.querySelector('table')?.getAttribute('aria-label') ?? '';
        window.seen.push([status, bars]);
    };
    window.watching = new MutationObserver(look);
    window.watching.observe(panel, {subtree: true, childList: true, characterData: true});
}"""
RAN = "window.seen.some(([status]) => status.startsWith('Running: ')) && window.seen.at(-1)[0].startsWith('Done: ')"


def _watched(lab: Lab, panel: Locator, press: Callable[[Locator], None]) -> None:
    """Press Run, wait for the end, and look at all that the panel showed on the way."""
    from playwright.sync_api import expect

    button = panel.get_by_role("button", name="Run", exact=True)
    panel.evaluate(WATCH)
    press(button)
    lab.wait(RAN)
    expect(button).to_be_enabled()
    seen = lab.page.evaluate("() => window.seen")
    bars = {shown for status, shown in seen if status.startswith("Running: ") and shown}
    assert len(bars) > 1, seen
    assert seen[-1][0].startswith("Done: round-robin sent 800 requests to 8 workers"), seen[-1]


def test_the_panel_runs_by_mouse_and_by_keyboard(opened: Open, screenshots: Path) -> None:
    """Run works by a click and then by each of the keys that press a button, without a step back to it.

    The bars move meanwhile, and it says Done.
    """
    from playwright.sync_api import expect

    with opened("03_counts_and_waits.ipynb") as lab:
        lab.run_all()
        panel = lab.page.locator(".jp-OutputArea .widget-vbox", has=lab.page.get_by_role("button", name="Run"))

        _watched(lab, panel, lambda button: button.click())
        expect(panel.get_by_role("button", name="Run", exact=True)).to_be_focused()
        for key in ("Enter", "Space"):
            _watched(lab, panel, lambda _, key=key: lab.page.keyboard.press(key))

        assert [] == lab.failures()
        assert [] == lab.said
        lab.screenshot(screenshots, "03_panel")


# ---------------------------------------------------------------------------- what a reader runs again


def test_a_service_cell_run_three_times_shows_one_card(opened: Open) -> None:
    """Ctrl+Enter three times on the cell that serves: no error, and one card, not three."""
    with opened("01_one_request_three_layers.ipynb") as lab:
        cell = lab.page.locator(".jp-CodeCell", has_text="serve(").first
        cell.locator(".cm-content").click()
        for n in (1, 2, 3):
            lab.page.keyboard.press("Control+Enter")
            lab.wait(f"{CODE_CELLS}.some(cell => cell.model.executionCount === {n}) && {IDLE}")

        assert [] == lab.failures()
        assert [] == lab.said
        assert 1 == cell.get_by_role("group", name="Deployment ").count(), cell.inner_text()
