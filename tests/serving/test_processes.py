"""`dynlab serve --runtime ai_dynamo`: each instance a process; and `dynlab status`."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dynlab.cli import main
from tests.commands import Command, running

pytestmark = pytest.mark.needs_real_engine

GRAPH = "dynlab.hello_world"


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discovery of the test's own."""
    monkeypatch.setenv("DYN_FILE_KV", str(tmp_path / "store"))


def serving(cwd: Path, *more: str, graph: str = GRAPH) -> Iterator[Command]:
    return running("serve", graph, "--runtime", "ai_dynamo", "--port", "0", *more, cwd=cwd)


def ask(command: Command, prompt: str = "hi") -> httpx.Response:
    url = command.wait_for(r"http://127.0.0.1:\d+/fegenerate")
    return httpx.post(url, json={"prompt": prompt, "request_id": "r"}, timeout=30)


def pid_of(command: Command, service: str, number: int) -> int:
    """Find the process of one instance by its orders."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
            parent = int(re.search(r"PPid:\s+(\d+)", (entry / "status").read_text())[1])  # type: ignore[index]
        except OSError:
            continue
        if f'{service}", "number": {number},'.encode() in line and parent == command.process.pid:
            return int(entry.name)
    raise AssertionError(f"no process of {service}-{number}")


def test_each_instance_is_a_process_and_a_dead_one_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All answer; `status` lists them; one that is killed costs at most a request, and nothing restarts it."""
    with serving(tmp_path, "--workers", "DummyWorker=3", "--Processor.min_worker=3") as command:
        answers = [ask(command) for _ in range(6)]
        assert [200] * 6 == [answer.status_code for answer in answers]
        assert "_ProcessedBy_" in answers[0].text
        assert "_GeneratedBy_" in answers[0].text
        assert "[Processor-0]" in command.output

        main_output = status(capsys)
        assert ["namespace dynamo-demo", "  component DummyWorker", "    endpoint begenerate"] == main_output[1:4]
        assert 4 == sum(line.startswith("      instance ") for line in main_output)

        os.kill(pid_of(command, "DummyWorker", 1), signal.SIGKILL)
        command.wait_for(r"DummyWorker-1 is gone: killed by SIGKILL\. Nothing restarts it\.")
        codes = [ask(command).status_code for _ in range(12)]
        assert sum(code != 200 for code in codes) <= 2

        assert 0 == command.stop(signal.SIGINT)
        assert "Stopped." in command.output
        assert "Traceback" not in command.output.split("Stopping:")[1]
    # Who was killed could not say goodbye: it is listed until its lease has run out.
    assert 1 >= sum(line.startswith("      instance ") for line in status(capsys))


def status(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit):
        main(["status"])
    return capsys.readouterr().out.splitlines()


def test_what_is_under_way_is_finished_first(tmp_path: Path) -> None:
    """SIGTERM in the middle of a long answer: it arrives whole, then all processes are gone."""
    slow = ["--DummyWorker.stream_words=true", "--DummyWorker.token_ms=100"]
    with serving(tmp_path, *slow) as command, concurrent.futures.ThreadPoolExecutor(1) as pool:
        url = command.wait_for(r"http://127.0.0.1:\d+/fegenerate")
        pids = [pid_of(command, service, 0) for service in ("DummyWorker", "Processor", "Frontend")]
        begun = threading.Event()

        def read() -> str:
            body = {"prompt": " ".join(str(n) for n in range(20)), "request_id": "r"}
            text = ""
            with httpx.stream("POST", url, json=body, timeout=30) as answer:
                for chunk in answer.iter_text():
                    text += chunk
                    begun.set()
            return text

        reading = pool.submit(read)
        assert begun.wait(30)

        assert 0 == command.stop(signal.SIGTERM)

        assert 20 == reading.result().count("Response: ")
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_linked_graph_leaves_the_rest_to_others(tmp_path: Path) -> None:
    """`.link()` cuts the graph in two: workers here, Frontend and Processor there, and they find each other."""
    (tmp_path / "front.py").write_text(
        "from dynlab.hello_world import Frontend, Processor\n\nFrontend.link(Processor)\n", encoding="utf-8"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        serving(elsewhere, "--workers", "DummyWorker=2", graph=f"{GRAPH}:DummyWorker") as workers,
        serving(tmp_path, "--Processor.min_worker=2", graph="front:Frontend") as front,
    ):
        workers.wait_for("Ctrl-C stops it")
        assert 200 == ask(front).status_code
        assert "DummyWorker:" not in front.output
        assert "DummyWorker: 2 processes" in workers.output


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    """All others are ended, and the exit status is not 0."""
    (tmp_path / "broken.py").write_text(
        "from dynlab import service, dynamo_endpoint, async_on_start\n\n\n"
        "@service(dynamo={'namespace': 'broken'})\n"
        "class Worker:\n"
        "    @async_on_start\n"
        "    async def load(self):\n"
        "        raise RuntimeError('no such model')\n\n"
        "    @dynamo_endpoint()\n"
        "    async def work(self, request: str):\n"
        "        yield request\n",
        encoding="utf-8",
    )
    with serving(tmp_path, graph="broken:Worker") as command:
        assert 1 == command.process.wait(60)
        assert "no such model" in command.output
        assert "Worker-0 ended while starting; its lines above say why." in command.output


def test_status_of_nothing_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the backend does not answer."""
    assert [f"Nothing is served, as far as {tmp_path / 'store'} says."] == status(capsys)


def test_an_etcd_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its address, and the variable that says where it is."""
    monkeypatch.setenv("ETCD_ENDPOINTS", "http://127.0.0.1:1")
    with pytest.raises(SystemExit) as ended:
        main(["status", "--discovery", "etcd"])

    assert 1 == ended.value.code
    assert "etcd at http://127.0.0.1:1 cannot be asked" in (said := capsys.readouterr().err)
    assert "ETCD_ENDPOINTS says where" in said
