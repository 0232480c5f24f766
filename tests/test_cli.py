"""The commands, as somebody types them."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dynlab
from dynlab import cli
from dynlab.doctor import Finding, Report
from dynlab.serving.server import bind
from tests.commands import WAIT_S, running

GRAPH = """
import asyncio, logging, pathlib
from dynlab import api, async_on_start, depends, dynamo_endpoint, service

@service(dynamo={"namespace": "test"}, workers=2)
class Worker:
    @dynamo_endpoint()
    async def work(self, request):
        logging.getLogger("dynlab.test").info("at work")
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
        yield "done"

@service(dynamo={"namespace": "test"})
class Front:
    worker = depends(Worker)

    @api
    async def wait(self, name):
        async for item in self.worker.work(name):
            yield item

@service
class Slow:
    @async_on_start
    async def start(self):
        pathlib.Path("starting").touch()
        await asyncio.sleep(3600)

class Plain:
    pass
"""
ENTRIES = """
from dynlab import service

@service
class Frontend: ...

@service
class Other: ...
"""
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder with graphs; modules and signal handlers are put back in the end."""
    files = {"mygraph": GRAPH, "entries": ENTRIES, "unread": "x = (", "broken": "x = 1\ny = z\n"}
    files |= {"needy": "import no_such_package_xyz", "empty": ""}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in files:
        sys.modules.pop(name, None)


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Return a function that runs a command in this process: its exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        code = ended.value.code
        assert isinstance(code, int | None)
        return code or 0, *capsys.readouterr()

    return run


def post(url: str, **body: str) -> str:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        return str(response.read().decode())


# ---------------------------------------------------------------------------- the command itself


def test_the_version_is_the_packages(typed: Typed) -> None:
    """`--version` says what is imported."""
    assert (0, f"dynlab {dynlab.__version__}\n", "") == typed("--version")


@pytest.mark.parametrize("command", ["hello", "lab", "serve"])
def test_help_shows_how_it_is_typed(command: str) -> None:
    """The help of a command ends its description with examples, unbroken, that begin with its name."""
    done = CliRunner().invoke(cli.app, [command, "--help"])

    assert 0 == done.exit_code
    assert f"\n  dynlab {command}" in done.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hello", "--picture", "out.gif"], "'out.gif' must end in .png, .svg or .pdf."),
        (["hello", "--picture", "nowhere/out.svg"], "there is no folder 'nowhere' to draw out.svg in."),
        (["hello", "--requests", "0"], "'--requests'"),
        (["hello", "--reqests", "1"], "--reqests"),
        (["serve"], "graph"),
        (["helo"], "helo"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], sentence: str, folder: Path, typed: Typed) -> None:
    """What was typed wrongly is said before anything runs."""
    status, out, err = typed(*arguments)

    assert (2, "") == (status, out)
    assert sentence.lower() in err.lower()


def test_the_doctor_fails_only_for_what_is_needed(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit is no failure; something missing is."""
    for state, status in (("ok", 0), ("limited", 0), ("missing", 1)):
        monkeypatch.setattr(cli, "examine", lambda state=state: Report([Finding("it", state, "was tried")]))

        assert status == typed("doctor")[0]


def test_an_interrupted_hello_ends_with_130(tmp_path: Path) -> None:
    """Ctrl-C is no error of the program: no traceback, the status that shells expect."""
    with running("hello", "--requests", "100000", cwd=tmp_path) as command:
        command.wait_for("POST http")

        assert 130 == command.stop(signal.SIGINT), command.output
        assert "Traceback" not in command.output


# ---------------------------------------------------------------------------- serve


def test_serve_says_how_to_ask(tmp_path: Path) -> None:
    """Instances, routes, keys, and a curl line that is right as it stands."""
    with running("serve", "dynlab.hello_world", "--port", "0", "--workers", "DummyWorker=3", cwd=tmp_path) as command:
        command.wait_for("Ctrl-C stops it")
        words = shlex.split(command.wait_for("curl .*"))
        url = words[words.index("POST") + 1]
        answer = post(url, **json.loads(words[-1]))

        assert "..._ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0" in answer
        assert "DummyWorker: 3 instances (7001, 7002, 7003)\n" in command.output
        assert f"POST {url} takes prompt, request_id\n" in command.output
        command.wait_for(r"INFO +Processor-0: workers are all ready")
        assert 0 == command.stop(signal.SIGINT)


def test_serve_finishes_what_is_under_way(folder: Path) -> None:
    """A request that is in a worker when the signal comes gets its answer; then the command ends with 0."""
    with running("serve", "mygraph:Front", "--port", "0", cwd=folder) as command, ThreadPoolExecutor(1) as pool:
        url = command.wait_for(r"http://127\.0\.0\.1:\d+/wait")
        answer = pool.submit(post, url, name="x")
        command.wait_for("at work")
        command.process.send_signal(signal.SIGTERM)
        command.wait_for("Stopping")
        (folder / "go").touch()

        assert "done" == answer.result(WAIT_S)
        assert 0 == command.stop()
        assert command.output.endswith("Stopped.\n")
        assert "Traceback" not in command.output


def test_a_second_signal_does_not_wait(folder: Path) -> None:
    """Whoever insists is not kept waiting by a request that never ends."""
    with running("serve", "mygraph:Front", "--port", "0", cwd=folder) as command, ThreadPoolExecutor(1) as pool:
        url = command.wait_for(r"http://127\.0\.0\.1:\d+/wait")
        answer = pool.submit(post, url, name="x")
        command.wait_for("at work")
        command.process.send_signal(signal.SIGINT)
        command.wait_for("Stopping")

        assert 130 == command.stop(signal.SIGINT)
        assert answer.exception(WAIT_S) is not None
        assert "Traceback" not in command.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_can_be_broken_off(number: int, folder: Path) -> None:
    """A service that waits for something as it starts does not hold the terminal."""
    with running("serve", "mygraph:Slow", cwd=folder) as command:
        command.wait_until((folder / "starting").exists, "start hook")

        assert 130 == command.stop(number), command.output
        assert "Traceback" not in command.output


def test_a_worker_alone_is_a_graph_too(folder: Path) -> None:
    """A tier without HTTP says so, and runs until it is stopped."""
    with running("serve", "mygraph:Worker", cwd=folder) as command:
        command.wait_for("Ctrl-C stops it")

        assert 0 == command.stop(signal.SIGINT)
        assert "Worker: 2 instances (7001, 7002)\nWorker has no @api method, so there is no HTTP.\n" in command.output


def test_a_dry_run_says_what_would_start(folder: Path, typed: Typed) -> None:
    """Callees stand before callers, each with its namespace and the number of its instances."""
    expected = "test/Worker x 5\ntest/Front x 1\n"

    assert (0, expected, "") == typed("serve", "mygraph:Front", "--dry-run", "--workers", "Worker=5")


def test_overrides_reach_the_service(folder: Path, typed: Typed) -> None:
    """`--Service.key=value` and `--Service.key value` replace keys of the file."""
    (folder / "config.yaml").write_text("Processor: {router: round-robin, min_worker: 1}\n")
    arguments = ["-f", "config.yaml", "--Processor.router=random", "--DummyWorker.token_ms", "2", "--dry-run"]

    _, out, _ = typed("serve", "dynlab.hello_world:Frontend", *arguments)

    assert "dynamo-demo/Processor x 1  {'router': 'random', 'min_worker': 1}" in out
    assert "dynamo-demo/DummyWorker x 1  {'token_ms': 2}" in out


def test_without_a_class_the_frontend_is_entered_or_the_last(folder: Path) -> None:
    """Of the services that nobody calls, the one named Frontend; without one, the last of the module."""
    assert "Frontend" == cli.load_graph("entries").name
    assert "Slow" == cli.load_graph("mygraph").name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nomodule:Front"], "No module 'nomodule' in "),
        (["mygrph"], "Did you mean 'mygraph'?"),
        (["mygraph.py"], "'mygraph.py' is no module's name; write module:Class, as in mygraph:Frontend."),
        ([":Front"], "'' is no module's name; write module:Class, as in components.graph:Frontend."),
        (["mygraph:Frnt"], "mygraph has no service 'Frnt'; it has Worker, Front, Slow. Did you mean 'Front'?"),
        (["mygraph:Plain"], "mygraph.Plain is no service; decorate the class: @service()."),
        (["empty"], "empty has no services; decorate its classes with @service(), or name another module."),
        (["unread"], "unread.py, line 1: '(' was never closed."),
        (["broken"], "broken.py, line 2: NameError: name 'z' is not defined."),
        (["needy"], "needy imports 'no_such_package_xyz', which is not installed."),
        (["mygraph:Front", "--workers", "Worker"], "--workers 'Worker': write Service=N"),
        (["mygraph:Front", "--workers", "Workr=2"], "no such service in the graph of Front"),
        (["mygraph:Front", "-f", "none.yaml"], "Config file none.yaml does not exist"),
        (["mygraph:Front", "--prt", "1"], "'--prt' is no override; write --Service.key=value"),
        (["mygraph:Front", "--host", "no.such.host.invalid"], "Cannot listen on port 0 of 'no.such.host.invalid'"),
        (["dynlab.hello_world", "--Processor.ruter=random"], "Did you mean 'router'?"),
        (["dynlab.hello_world", "--router-mode", "rnd"], "router_mode='rnd' is no router mode"),
        (["dynlab.hello_world", "--router-mode", "rnd", "--dry-run"], "router_mode='rnd' is no router mode"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, folder: Path, typed: Typed) -> None:
    """Nothing starts, and the exit status is 1."""
    status, out, err = typed("serve", *arguments, "--port", "0")

    assert (1, "") == (status, out)
    assert err.startswith("dynlab: ")
    assert sentence in err
    assert 1 == err.count("\n")


def test_a_busy_port_is_one_sentence(folder: Path, typed: Typed) -> None:
    """It names the port and says how to get a free one."""
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        status, _, err = typed("serve", "mygraph:Front", "--port", str(port))

    assert 1 == status
    assert f"Port {port} on 127.0.0.1 is taken by another program." in err
