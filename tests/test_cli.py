"""The commands, as somebody types them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dynlab

ROOT = Path(dynlab.__file__).parents[1]
WAIT_S = 30.0
GRAPH = """
import asyncio
from dynlab import api, depends, dynamo_endpoint, service

@service(dynamo={"namespace": "test"}, workers=2)
class Worker:
    @dynamo_endpoint()
    async def work(self, request):
        await asyncio.sleep(float(request))
        yield "done"

@service(dynamo={"namespace": "test"})
class Front:
    worker = depends(Worker)

    @api
    async def wait(self, seconds):
        async for item in self.worker.work(str(seconds)):
            yield item

class Plain:
    pass
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "120", "NO_COLOR": "1"}


def dynlab_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-W", "error", "-m", "dynlab", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60)


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a command that goes on; its output is collected in a file."""
    log = cwd / "output.txt"
    with log.open("w") as out:
        command = [sys.executable, "-m", "dynlab", *arguments]
        process = subprocess.Popen(command, cwd=cwd, env=environment(), stdout=out, stderr=subprocess.STDOUT, text=True)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def wait_for(log: Path, pattern: str, process: subprocess.Popen[str]) -> str:
    """Return the first match in the output so far, waiting for it while the command runs."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found.group(0)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} did not appear in:\n{log.read_text()}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mygraph.py").write_text(GRAPH)
    return tmp_path


def test_hello_sends_draws_and_says_where(tmp_path: Path) -> None:
    """Every mode's counts are in the table, nothing is lost, and the picture is where it is said to be."""
    done = dynlab_command("hello", "--requests", "40", "--workers", "4", "--picture", "out.svg", cwd=tmp_path)

    assert 0 == done.returncode, done.stdout + done.stderr
    table = {line.split()[0]: line.split()[1:5] for line in done.stdout.splitlines() if line.endswith("%")}
    assert ["10"] * 4 == table["round-robin"]
    assert ["40", "0", "0", "0"] == table["direct"]
    assert {40} == {sum(map(int, counts)) for counts in table.values()}
    assert "test" not in table
    assert str(tmp_path / "out.svg") in done.stdout
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")
    assert "" == done.stderr


def test_hello_fails_when_the_picture_cannot_be_written(tmp_path: Path) -> None:
    """An impossible picture is said before anything runs, in one sentence."""
    done = dynlab_command("hello", "--requests", "4", "--picture", "out.gif", cwd=tmp_path)

    assert 2 == done.returncode
    assert "Traceback" not in done.stderr
    assert "out.gif" in done.stderr


def test_doctor_ends_well_where_the_tests_run(tmp_path: Path) -> None:
    """Exit status 0 goes with the last line."""
    done = dynlab_command("doctor", cwd=tmp_path)

    assert (0, "Everything that is needed works.") == (done.returncode, done.stdout.strip().splitlines()[-1])


def test_serve_answers_and_finishes_what_is_under_way(folder: Path) -> None:
    """A request that is in a worker when the signal comes gets its answer; then the command ends with 0."""
    with running("serve", "mygraph:Front", "--port", "0", cwd=folder) as (process, log):
        url = wait_for(log, r"http://127\.0\.0\.1:\d+/wait", process)
        wait_for(log, "Ctrl-C stops it", process)
        data = b'{"seconds": 1}'
        ask = subprocess.Popen(
            ["curl", "-s", "-X", "POST", url, "-d", data.decode()], stdout=subprocess.PIPE, text=True
        )
        wait_for(log, "Worker: 2 instances", process)
        # The request has arrived once the server has a second connection's worth of work: ask its own health route.
        with urllib.request.urlopen(url.replace("/wait", "/healthz")) as response:
            assert 200 == response.status
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        answer, _ = ask.communicate(timeout=WAIT_S)

        assert "done" == answer
        assert 0 == process.wait(WAIT_S)
        assert log.read_text().rstrip().endswith("Stopped.")
        assert "Traceback" not in log.read_text()


def test_serve_without_a_class_enters_where_nobody_calls(folder: Path) -> None:
    """`module` alone is its service that no other depends on; a dry run starts nothing."""
    done = dynlab_command("serve", "mygraph", "--dry-run", "--workers", "Worker=5", cwd=folder)

    assert ["test/Worker x 5", "test/Front x 1"] == done.stdout.strip().splitlines()


def test_a_worker_alone_is_a_graph_too(folder: Path) -> None:
    """A tier without HTTP runs until it is stopped."""
    with running("serve", "mygraph:Worker", cwd=folder) as (process, log):
        wait_for(log, "Ctrl-C stops it", process)
        process.send_signal(signal.SIGINT)

        assert 0 == process.wait(WAIT_S)
        assert "Worker: 2 instances" in log.read_text()


def test_overrides_reach_the_service(folder: Path) -> None:
    """`--Service.key=value` and `--Service.key value` replace keys of the file."""
    (folder / "config.yaml").write_text("Processor: {router: round-robin, min_worker: 1}\n")

    done = dynlab_command(
        "serve",
        "dynlab.hello_world:Frontend",
        "-f",
        "config.yaml",
        "--Processor.router=random",
        "--DummyWorker.token_ms",
        "2",
        "--dry-run",
        cwd=folder,
    )

    assert "dynamo-demo/Processor x 1  {'router': 'random', 'min_worker': 1}" in done.stdout
    assert "dynamo-demo/DummyWorker x 1  {'token_ms': 2}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nomodule:Front"], "No module 'nomodule' in "),
        (["mygraph:Frnt"], "mygraph has no service 'Frnt'; it has Worker, Front. Did you mean 'Front'?"),
        (["mygraph:Plain"], "mygraph has no service 'Plain'; it has Worker, Front."),
        (["mygraph", "--workers", "Worker"], "--workers 'Worker': write Service=N"),
        (["mygraph", "--workers", "Workr=2"], "no such service in the graph of Front"),
        (["mygraph", "-f", "none.yaml"], "Config file none.yaml does not exist"),
        (["dynlab.hello_world", "--Processor.ruter=random"], "Did you mean 'router'?"),
        (["dynlab.hello_world", "--router-mode", "rnd"], "router_mode='rnd' is no router mode"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, folder: Path) -> None:
    """Nothing starts, no traceback is shown, and the exit status is 1."""
    done = dynlab_command("serve", *arguments, "--port", "0", cwd=folder)

    assert 1 == done.returncode, done.stdout + done.stderr
    assert done.stderr.startswith("dynlab: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_busy_port_is_one_sentence(folder: Path) -> None:
    """It says how to get a free one."""
    from dynlab.serving.server import bind

    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = dynlab_command("serve", "mygraph", "--port", str(port), cwd=folder)

    assert 1 == done.returncode
    assert f"Port {port} on 127.0.0.1 is taken by another program." in done.stderr


def test_lab_prints_an_address_that_answers(tmp_path: Path) -> None:
    """Without a browser JupyterLab still runs, says where, and has the first notebook."""
    from dynlab.serving.server import bind

    with bind("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    with running("lab", "--no-browser", "--port", port, cwd=tmp_path) as (process, log):
        address = wait_for(log, r"http://127\.0\.0\.1:\d+/lab\S*token=\w+", process)
        wait_for(log, r"Use Control-C to stop this server", process)
        base, _, token = address.partition("/lab")
        token = token.partition("token=")[2]

        with urllib.request.urlopen(f"{base}/api/contents/00_start_here.ipynb?content=0&token={token}") as response:
            assert 200 == response.status

        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def test_the_notebooks_of_a_wheel_are_laid_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package copies its notebooks, and never over what a learner has changed."""
    from dynlab import lab

    package = tmp_path / "site" / "dynlab"
    (package / "_notebooks").mkdir(parents=True)
    (package / "_notebooks" / "00_start_here.ipynb").write_text("new")
    (package / "_notebooks" / "01.ipynb").write_text("new")
    mine = tmp_path / "work" / "dynlab-notebooks"
    mine.mkdir(parents=True)
    (mine / "00_start_here.ipynb").write_text("mine")
    monkeypatch.setattr(lab, "_PACKAGE", package)

    assert mine == lab.find_notebooks(tmp_path / "work")
    assert ["mine", "new"] == [(mine / name).read_text() for name in ("00_start_here.ipynb", "01.ipynb")]


def test_the_version_is_the_packages() -> None:
    """`--version` says what is imported."""
    done = dynlab_command("--version", cwd=ROOT)

    assert f"dynlab {dynlab.__version__}" == done.stdout.strip()
