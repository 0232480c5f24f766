"""Three machines in one: network namespaces with addresses and host names of their own, and an etcd between them.

`python -m tests.machines` (as root, from the checkout) runs the two scenarios of the multi-node hello world and prints
what each request was answered with.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

__all__ = ("FRONT", "Machine", "Machines", "machines")

BRIDGE = "dynlab-br"
NET = "10.77.77"
HUB = f"{NET}.254"
FRONT = "from dynlab.hello_world import Frontend, Processor\n\nFrontend.link(Processor)\n"
WAIT_S = 60.0


class Machine:
    """A network namespace: `node1` has 10.77.77.1."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"node{number}"
        self.address = f"{NET}.{number}"
        self._space = f"dynlab-{self.name}"
        self._wire = f"dynlab-v{number}"
        self._folder = folder
        self._log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def set_up(self) -> None:
        for command in (
            f"ip netns add {self._space}",
            f"ip link add {self._wire} type veth peer name eth0 netns {self._space}",
            f"ip link set {self._wire} master {BRIDGE} up",
            f"ip -n {self._space} addr add {self.address}/24 dev eth0",
            f"ip -n {self._space} link set eth0 up",
            f"ip -n {self._space} link set lo up",
            f"ip -n {self._space} route add default via {HUB}",
        ):
            _run(command)

    def tear_down(self) -> None:
        self.crash()
        _run(f"ip netns del {self._space}", check=False)
        _run(f"ip link del {self._wire}", check=False)

    def serve(self, graph: str, *more: str) -> None:
        """Begin `dynlab serve` here, under this machine's host name."""
        command = [
            sys.executable,
            "-m",
            "dynlab",
            "serve",
            graph,
            "--runtime",
            "ai_dynamo",
            "--discovery",
            "etcd",
            *more,
        ]
        shell = 'hostname "$0" && exec "$@"'
        environment = {
            **os.environ,
            "ETCD_ENDPOINTS": f"http://{HUB}:2379",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        with self._log.open("wb") as log:  # only what it says from now on
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._space, "unshare", "--uts", "sh", "-c", shell, self.name, *command],
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str) -> None:
        """Wait for a line of what it serves."""
        deadline = time.monotonic() + WAIT_S
        while text not in self.output:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} on {self.name}:\n{self.output}"
            time.sleep(0.05)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """End what it serves in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.crash()
            self._process = None

    def crash(self) -> None:
        """Kill every process here, as a machine that loses its power."""
        pids = _run(f"ip netns pids {self._space}", check=False).split()
        for pid in pids:
            _run(f"kill -9 {pid}", check=False)
        if self._process is not None:
            self._process.wait(10)
            self._process = None

    def cut_off(self, cut: bool = True) -> None:
        """Pull the wire, or put it back."""
        _run(f"ip link set {self._wire} {'down' if cut else 'up'}")


class Machines:
    """The machines, and an etcd that all of them reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = {number: Machine(number, folder) for number in (1, 2, 3)}
        (folder / "front.py").write_text(FRONT, encoding="utf-8")

    def __getitem__(self, number: int) -> Machine:
        return self.nodes[number]

    def ask(self, request_id: str, timeout: float = 30.0) -> httpx.Response:
        """Send a request to the Frontend on node1."""
        body = {"prompt": "test prompt str", "request_id": request_id}
        return httpx.post(f"http://{self[1].address}:3000/fegenerate", json=body, timeout=timeout)

    def who(self, request_id: str) -> str:
        """Return the host name of the machine whose worker answered, or the status of an error."""
        answer = self.ask(request_id)
        if answer.status_code != 200:
            return str(answer.status_code)
        return answer.text.rsplit("_GeneratedBy_", 1)[1].split('"')[0]


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Set all up, and take it down again. Needs root, ip, unshare and etcd."""
    with ExitStack() as stack:
        _run(f"ip link del {BRIDGE}", check=False)
        _run(f"ip link add {BRIDGE} type bridge")
        stack.callback(_run, f"ip link del {BRIDGE}", check=False)
        _run(f"ip addr add {HUB}/24 dev {BRIDGE}")
        _run(f"ip link set {BRIDGE} up")
        stack.enter_context(_etcd(folder))
        found = Machines(folder)
        for machine in found.nodes.values():
            machine.tear_down()  # what a run that was killed left
            stack.callback(machine.tear_down)
            machine.set_up()
        yield found


@contextmanager
def _etcd(folder: Path) -> Iterator[None]:
    url = f"http://{HUB}:2379"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        peer = free.getsockname()[1]
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            f"etcd --data-dir {folder / 'etcd'} --listen-client-urls {url} --advertise-client-urls {url} "
            f"--listen-peer-urls http://127.0.0.1:{peer}".split(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                assert time.monotonic() < deadline, (folder / "etcd.log").read_text()
                time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def _run(command: str, check: bool = True) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def first_scenario(three: Machines) -> list[str]:
    """One worker on node2, chosen at random: return who answered four requests."""
    three[2].serve("dynlab.hello_world:DummyWorker")
    three[1].serve("front:Frontend", "--host", three[1].address, "--Processor.router=random")
    three[1].wait_for("Ctrl-C stops it")
    return [three.who(f"id_{n}") for n in range(4)]


def second_scenario(three: Machines) -> list[str]:
    """A second worker on node3, and round robin: return who answered four requests."""
    three[3].serve("dynlab.hello_world:DummyWorker")
    three[3].wait_for("Ctrl-C stops it")
    three[1].stop()
    settings = ("--Processor.router=round-robin", "--Processor.min_worker=2")
    three[1].serve("front:Frontend", "--host", three[1].address, *settings)
    three[1].wait_for("Ctrl-C stops it")
    return [three.who(f"id_{n}") for n in range(4)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, machines(Path(place)) as found:
        sys.stdout.write(f"one worker, at random: {first_scenario(found)}\n")
        sys.stdout.write(f"two workers, in turn: {second_scenario(found)}\n")
