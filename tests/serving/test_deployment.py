"""A running graph can be changed, broken, explained and closed, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynlab.errors import (
    ConfigError,
    DeploymentError,
    GraphError,
    NoInstancesError,
    PortInUseError,
    RequestFailedError,
    StreamIncompleteError,
    TraceNotFoundError,
)
from dynlab.hello_world import DummyWorker, Frontend, Processor
from dynlab.routing.modes import RouterMode
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from dynlab.serving.server import bind

WAIT_S = 5.0
TWO = {"DummyWorker": 2}


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("dynlab-"))


def worker_of(item: str) -> str:
    return str(json.loads(item.removeprefix("Response: "))["worker_output"]).rpartition("_")[2]


def asked(deployment: Deployment, times: int) -> list[str]:
    return [worker_of(deployment.ask("p")[0]) for _ in range(times)]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event to wait on."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


# ---------------------------------------------------------------------------- a graph of events


class Gate:
    """What the services below wait for, and what they tell."""

    opened = threading.Event()
    entered = threading.Semaphore(0)


@pytest.fixture(autouse=True)
def gate() -> Iterator[None]:
    Gate.opened, Gate.entered = threading.Event(), threading.Semaphore(0)
    yield
    Gate.opened.set()


@service(dynamo={"namespace": "test"}, workers=2)
class Worker:
    @async_on_start
    async def start(self) -> None:
        if (how := os.environ.get("DYNLAB_TEST_START")) == "fail":
            raise LookupError("no model here")
        if how == "hang":
            await asyncio.get_running_loop().create_future()

    @dynamo_endpoint()
    async def hold(self, request):
        Gate.entered.release()
        while not Gate.opened.is_set():
            await asyncio.sleep(0.001)
        yield f"{request} by {dynamo_context['hostname']}"

    @dynamo_endpoint()
    async def block(self, request):
        Gate.entered.release()
        Gate.opened.wait(WAIT_S)
        yield "blocked"

    @dynamo_endpoint()
    async def quick(self, request):
        yield dynamo_context["hostname"]

    @dynamo_endpoint()
    async def forever(self, request):
        Gate.entered.release()
        yield "first"
        await asyncio.get_running_loop().create_future()


@service(dynamo={"namespace": "test"})
class Front:
    worker = depends(Worker)

    async def call(self, name: str, request: Any) -> Any:
        client = await self.worker.get_endpoint(name)
        return await client.route(request, annotated=False)

    @api
    async def hold(self, prompt):
        async for item in await self.call("hold", prompt):
            yield item

    @api
    async def block(self, prompt):
        async for item in await self.call("block", prompt):
            yield item

    @api
    async def quick(self, prompt):
        async for item in await self.call("quick", prompt):
            yield item

    @api
    async def forever(self):
        async for item in await self.call("forever", None):
            yield item

    @api
    async def ask_itself(self):
        yield dynamo_context["deployment"].ask("x", api="quick")


# ---------------------------------------------------------------------------- starting again


def test_serving_again_replaces_what_runs() -> None:
    """A cell that is run twice leaves one deployment: the newer."""
    with serve(Frontend) as first, serve(Frontend) as second:
        assert ("closed", "running") == (first.state, second.state)
        assert ["dynlab-DummyWorker-0", "dynlab-Frontend-0", "dynlab-Processor-0"] == threads()
        assert 1 == len(second.ask("x"))


def test_serving_again_on_the_same_port() -> None:
    """The port is given back before it is taken again."""
    with serve(Frontend) as first, serve(Frontend, port=first.port) as second:
        assert first.port == second.port
        assert 1 == len(second.ask("x"))


def test_names_keep_deployments_side_by_side() -> None:
    """Two names are two graphs with two ports, whose requests do not meet."""
    with serve(Frontend, name="a", workers=TWO) as a, serve(Frontend, name="b") as b:
        a.ask("x", request_id="to-a")
        b.ask("x", request_id="to-b")

        assert a.url != b.url
        assert ([True, False], [False, True]) == (
            ["to-a" in a.traces, "to-b" in a.traces],
            ["to-a" in b.traces, "to-b" in b.traces],
        )
        assert {"DummyWorker": 2, "Processor": 1, "Frontend": 1} == a.workers
        b.close()
        assert 1 == len(a.ask("still here"))


@pytest.mark.parametrize(
    "mistake",
    [
        {"workers": {"DummyWorkr": 1}},
        {"workers": 4},
        {"router_mode": "rond-robin"},
        {"migration_limit": -1},
        {"config": {"DummyWorker": {"tokn_ms": 1}}},
        {"config": "no-such-file.yaml"},
        {"overrides": ["DummyWorker.token_ms=1"]},
        {"port": "3000"},
        {"host": "192.0.2.7"},
    ],
    ids=str,
)
def test_a_mistake_costs_nobody_the_graph_that_runs(mistake: dict[str, Any]) -> None:
    """Wrong arguments are one sentence, and what was served before goes on."""
    with serve(Frontend) as deployment:
        with pytest.raises((GraphError, DeploymentError)):
            serve(Frontend, **mistake)

        assert "running" == deployment.state
        assert 1 == len(deployment.ask("x"))


def test_a_busy_port_costs_nobody_the_graph_that_runs() -> None:
    """Port 3000 may be another program's: the deployment on its free port goes on."""
    with serve(Frontend) as deployment, bind("127.0.0.1", 0) as other:
        with pytest.raises(PortInUseError):
            serve(Frontend, port=other.getsockname()[1])

        assert 1 == len(deployment.ask("x"))


def test_a_deployment_cannot_start_where_another_name_listens() -> None:
    """Its port is taken, too, when it is dynlab itself that listens there."""
    with serve(Frontend, name="a") as a, pytest.raises(PortInUseError, match=f"Port {a.port} on 127"):
        serve(Frontend, name="b", port=a.port)


# ---------------------------------------------------------------------------- failing to start


def test_a_service_that_fails_to_start_raises_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Type and message are the hook's, a note says whose, and no thread stays."""
    monkeypatch.setenv("DYNLAB_TEST_START", "fail")

    with pytest.raises(LookupError) as raised:
        serve(Front)

    assert "no model here" == str(raised.value)
    (note,) = raised.value.__notes__
    assert note in ("raised while Worker-0 was starting", "raised while Worker-1 was starting")
    assert [] == threads()


def test_a_service_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `start_timeout` the sentence says who is late, and no thread stays."""
    monkeypatch.setenv("DYNLAB_TEST_START", "hang")

    with pytest.raises(DeploymentError, match=r"^Worker-0, Worker-1 did not start within 0\.05 s\."):
        serve(Front, start_timeout=0.05)

    assert [] == threads()


def test_the_port_is_free_after_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try gets it."""
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("DYNLAB_TEST_START", "fail")
    with pytest.raises(LookupError):
        serve(Front, port=port)
    monkeypatch.delenv("DYNLAB_TEST_START")

    with serve(Front, port=port) as deployment:
        assert 1 == len(deployment.ask("x", api="quick"))


def test_too_few_workers_is_a_sentence_with_the_number() -> None:
    """The Processor waits for `min_worker`; here nobody will come."""
    config = {"Processor": {"min_worker": 3}}

    with pytest.raises(DeploymentError, match=r"^Processor-0 did not start within 0\.2 s"):
        serve(Frontend, config=config, start_timeout=0.2)


# ---------------------------------------------------------------------------- configuration


def test_a_dict_a_file_and_overrides_say_the_same(tmp_path: Path) -> None:
    """`config=` is a dict or a YAML file; `--Service.key=value` replaces keys of either."""
    path = tmp_path / "three words.yaml"
    path.write_text("DummyWorker:\n  stream_words: true\n  ServiceArgs:\n    workers: 2\n", encoding="utf-8")
    same: list[dict[str, Any]] = [
        {"config": {"DummyWorker": {"stream_words": True, "ServiceArgs": {"workers": 2}}}},
        {"config": path},
        {"config": str(path)},
        {
            "config": {"DummyWorker": {"stream_words": False, "ServiceArgs": {"workers": 2}}},
            "overrides": ["--DummyWorker.stream_words=true"],
        },
    ]

    for arguments in same:
        with serve(Frontend, **arguments) as deployment:
            assert 2 == deployment.workers["DummyWorker"]
            assert 3 == len(deployment.ask("one two three"))


def test_the_argument_beats_the_file() -> None:
    """`workers=` counts more than `ServiceArgs.workers`."""
    config = {"DummyWorker": {"ServiceArgs": {"workers": 2}}}

    with serve(Frontend, config=config, workers={DummyWorker: 3}) as deployment:
        assert 3 == deployment.workers["DummyWorker"]


def test_two_routers_may_not_disagree() -> None:
    """The argument and the config's `router` key are one thing said twice."""
    with pytest.raises(ConfigError, match=r"router_mode='random' and the config's Processor\.router='direct' disagree"):
        serve(Frontend, router_mode="random", config={"Processor": {"router": "direct"}})

    with serve(Frontend, router_mode="round_robin", config={"Processor": {"router": "round-robin"}}) as deployment:
        assert RouterMode.ROUND_ROBIN is deployment.router_mode


def test_the_configs_router_is_followed() -> None:
    """`Processor.router` of the original's configuration files."""
    with serve(Frontend, workers=TWO, config={"Processor": {"router": "direct"}}) as deployment:
        assert {"DummyWorker-0"} == set(asked(deployment, 4))


# ---------------------------------------------------------------------------- routing


def test_the_router_can_be_changed_while_it_runs() -> None:
    """Assign a name, a mode or a function; the next request follows it."""
    with serve(Frontend, workers={"DummyWorker": 3}) as deployment:
        assert ["DummyWorker-0", "DummyWorker-1", "DummyWorker-2", "DummyWorker-0"] == asked(deployment, 4)
        deployment.router_mode = "direct"
        assert {"DummyWorker-0"} == set(asked(deployment, 3))
        deployment.router_mode = lambda request, instances: instances[-1]
        assert {"DummyWorker-2"} == set(asked(deployment, 3))
        with pytest.raises(ConfigError, match="Did you mean 'random'"):
            deployment.router_mode = "randem"
        assert {"DummyWorker-2"} == set(asked(deployment, 3)), "a misspelt mode changes nothing"


@pytest.mark.parametrize("mode", ["random", "power-of-two", "least-loaded"])
def test_a_seed_makes_a_run_repeatable(mode: str) -> None:
    """The same seed, the same choices; another seed, others."""

    def run(seed: int) -> list[str]:
        with serve(Frontend, workers={"DummyWorker": 8}, router_mode=mode, seed=seed) as deployment:
            assert seed == deployment.traces.seed
            return asked(deployment, 20)

    assert run(7) == run(7) != run(8)


def test_a_pick_function_that_picks_nothing_is_a_sentence() -> None:
    """A forgotten `return` is said to who asks."""

    def pick(request: object, instances: object) -> None:
        pass

    sentence = r"PickError: The pick function returned None .* `return` missing"
    with serve(Frontend, router_mode=pick) as deployment, pytest.raises(RequestFailedError, match=sentence):
        deployment.ask("x")


# ---------------------------------------------------------------------------- explaining


def test_explain_says_why_this_worker() -> None:
    """Every pick of the request, the last one's by default."""
    with serve(Frontend, workers=TWO, seed=1) as deployment:
        deployment.ask("x", request_id="r-1")
        deployment.ask("x", request_id="r-2")
        explanation = deployment.explain("r-1")

        assert ["random", "round-robin"] == [decision.mode for decision in explanation.decisions]
        assert "turn 1, counted round and round over 2 instances by their ids, falls on number 1" in repr(explanation)
        assert repr(deployment.explain()) == repr(deployment.explain("r-2"))
        with pytest.raises(TraceNotFoundError, match="Did you mean 'r-2'"):
            deployment.explain("r-22")


# ---------------------------------------------------------------------------- scaling


def test_scaling_up_and_down_is_followed_at_once() -> None:
    """Once `scale` returns, requests go to whoever is there; the newest leave first."""
    with serve(Frontend, workers=TWO) as deployment:
        deployment.scale("DummyWorker", 4)
        assert {f"DummyWorker-{n}" for n in range(4)} == set(asked(deployment, 8))
        deployment.scale(DummyWorker, 1)
        assert {"DummyWorker-0"} == set(asked(deployment, 4))
        assert ["dynlab-DummyWorker-0", "dynlab-Frontend-0", "dynlab-Processor-0"] == threads()
        deployment.scale("DummyWorker", 0)
        with pytest.raises(RequestFailedError, match=r"HTTP 503: NoInstancesError: No workers available"):
            deployment.ask("x")
        deployment.scale("DummyWorker", 2)
        assert {"DummyWorker-4", "DummyWorker-5"} == set(asked(deployment, 4)), "numbers are not given twice"


def test_scaling_to_what_is_there_changes_nothing() -> None:
    """The same number, the same instances."""
    with serve(Frontend, workers=TWO) as deployment:
        before = list(deployment.instances)
        deployment.scale("DummyWorker", 2)
        assert before == deployment.instances


@pytest.mark.parametrize(
    ("name", "workers", "sentence"),
    [
        (
            "DummyWorkr",
            2,
            "No service 'DummyWorkr' in the graph of Frontend; it has DummyWorker, Processor, Frontend. ",
        ),
        ("DummyWorker", -1, "scale('DummyWorker', -1): give a number of instances, 0 or more."),
        ("DummyWorker", "3", "scale('DummyWorker', '3'): give a number of instances, 0 or more."),
        ("Frontend", 2, "Frontend serves HTTP on one port and runs once. Scale the services behind it."),
    ],
)
def test_what_cannot_be_scaled_is_a_sentence(name: str, workers: Any, sentence: str) -> None:
    """And nothing has changed."""
    with serve(Frontend) as deployment:
        with pytest.raises(GraphError) as raised:
            deployment.scale(name, workers)

        assert str(raised.value).startswith(sentence)
        assert {"DummyWorker": 1, "Processor": 1, "Frontend": 1} == deployment.workers


@pytest.mark.parametrize("how", ["fail", "hang"])
def test_scaling_that_fails_leaves_what_was_there(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New workers that do not start are gone; the old ones answer."""
    with serve(Front) as deployment:
        before = threads()
        monkeypatch.setenv("DYNLAB_TEST_START", how)
        with pytest.raises((LookupError, DeploymentError)):
            deployment.scale("Worker", 4, timeout=0.1)

        assert 2 == deployment.workers["Worker"]
        assert before == threads()
        assert {"Worker-0", "Worker-1"} == {deployment.ask("x", api="quick")[0] for _ in range(4)}


def test_scaling_down_under_load_loses_nothing() -> None:
    """Workers that leave in order answer what they have; nothing is sent to them any more."""
    with serve(Frontend, workers={"DummyWorker": 6, "Processor": 3}) as deployment:
        batch = deployment.ask_many(1500, concurrency=32, wait=False)
        for workers in (4, 2, 5, 1, 3):
            until(lambda goal=batch.done + 100: batch.done >= goal or batch.finished)
            deployment.scale("DummyWorker", workers)
            deployment.scale("Processor", 1 + workers % 2)

        assert {} == batch.wait().failures
        assert 1500 == batch.done


def test_drain_finishes_what_is_under_way() -> None:
    """The request is answered by the worker that leaves, and the next one by another."""
    with serve(Front) as deployment:
        batch = deployment.ask_many(["one"], api="hold", wait=False)
        assert Gate.entered.acquire(timeout=WAIT_S)
        busy = next(i for i in deployment.instances if i.service.name == "Worker" and i.active)
        draining = threading.Thread(target=deployment.drain, args=("Worker", busy.number))
        draining.start()
        discovery, endpoint = deployment.planes.discovery, busy.runtime.servers[0].endpoint
        until(lambda: busy.instance_id not in [listed.instance_id for listed in discovery.instances(endpoint)])
        other = deployment.ask("x", api="quick")
        assert [f"Worker-{1 - busy.number}"] == other
        Gate.opened.set()
        draining.join(WAIT_S)

        assert [f"one by Worker-{busy.number}"] == batch.wait().answers
        assert ("closed", 1) == (busy.state, deployment.workers["Worker"])


# ---------------------------------------------------------------------------- killing


def test_a_killed_worker_costs_one_error_and_is_skipped_then() -> None:
    """Dynamo's own behaviour: discovery still lists it, the first request runs into it, then it is inhibited."""
    with serve(Frontend, workers=TWO) as deployment:
        deployment.kill("DummyWorker", 0)
        outcomes = []
        for _ in range(6):
            try:
                outcomes.append(worker_of(deployment.ask("x")[0]))
            except RequestFailedError as error:
                outcomes.append(f"{error.status}")
                told = str(error)

        assert Counter({"DummyWorker-1": 5, "503": 1}) == Counter(outcomes)
        dead = deployment.instances[0].instance_id
        assert f"Connection to instance_id={dead} of endpoint dynamo-demo/DummyWorker/begenerate failed" in told
        assert 1 == deployment.workers["DummyWorker"]


def test_a_worker_is_killed_by_number_or_by_id() -> None:
    """Either is at hand: the number is in the name, the id in traces."""
    with serve(Frontend, workers={"DummyWorker": 3}) as deployment:
        deployment.kill("DummyWorker", 1)
        deployment.kill(DummyWorker, deployment.instances[2].instance_id)

        assert ["serving", "dead", "dead"] == [i.state for i in deployment.instances[:3]]
        with pytest.raises(DeploymentError) as raised:
            deployment.kill("DummyWorker", 1)
        first = deployment.instances[0].instance_id
        assert f"DummyWorker has no live instance 1; it has 0 (id {first})." == str(raised.value)


def test_a_killed_worker_leaves_the_list_when_its_lease_lapses() -> None:
    """With a short lease nobody is asked to try it."""
    with serve(Frontend, workers=TWO, lease_ttl_s=0.0) as deployment:
        deployment.kill("DummyWorker", 0)

        assert {"DummyWorker-1"} == set(asked(deployment, 4))


def test_what_a_killed_worker_was_answering_breaks_off() -> None:
    """The caller of a half answer is told how much had come."""
    with serve(Front, workers={"Worker": 1}) as deployment:
        stream = deployment.stream(api="forever")
        assert "first" == next(stream)
        deployment.kill("Worker", 0)

        with pytest.raises(RequestFailedError, match=r"StreamIncompleteError: Stream from .* ended after 1 item\(s\)"):
            next(stream)


def test_with_a_migration_limit_a_kill_loses_nothing() -> None:
    """Requests that had no item yet are sent to another worker; the traces show both."""
    with serve(
        Frontend, workers={"DummyWorker": 4}, migration_limit=3, config={"DummyWorker": {"first_token_ms": 2}}
    ) as d:
        batch = d.ask_many(400, concurrency=16, wait=False)
        for number in (0, 1, 2):
            until(lambda goal=batch.done + 50: batch.done >= goal or batch.finished)
            d.kill("DummyWorker", number)

        assert {} == batch.wait().failures
        assert 400 == batch.done
        tried_twice = [trace for trace in batch.traces if len(trace.hops) > 3]
        assert tried_twice
        assert all("ok" == trace.outcome for trace in tried_twice)


def test_everybody_dead_is_a_sentence() -> None:
    """The last error says who failed and what to do."""
    with serve(Frontend) as deployment:
        deployment.kill("DummyWorker", 0)
        dead = deployment.instances[0].instance_id
        with pytest.raises(RequestFailedError, match="WorkerUnavailableError"):
            deployment.ask("x")
        with pytest.raises(RequestFailedError, match=f"instances {dead} failed a moment ago and are skipped"):
            deployment.ask("x")
        deployment.scale("DummyWorker", 1)
        assert ["DummyWorker-1"] == asked(deployment, 1)


def test_a_worker_that_blocks_its_thread_delays_nobody_else() -> None:
    """`time.sleep` in a handler hurts that instance; in one loop it would stop the whole graph."""
    with serve(Front) as deployment:
        batch = deployment.ask_many(["x"], api="block", wait=False)
        assert Gate.entered.acquire(timeout=WAIT_S)
        blocked = next(i for i in deployment.instances if i.service.name == "Worker" and i.active)
        deployment.router_mode = lambda request, instances: next(i for i in instances if i.worker != blocked.worker)

        assert {f"Worker-{1 - blocked.number}"} == {deployment.ask("x", api="quick")[0] for _ in range(5)}
        assert not batch.finished
        Gate.opened.set()
        assert ["blocked"] == batch.wait().answers


# ---------------------------------------------------------------------------- closing


def test_close_leaves_no_thread_and_works_twice() -> None:
    """The second time it does nothing."""
    deployment = serve(Frontend, workers=TWO)
    deployment.close()
    deployment.close()

    assert [] == threads()
    assert "closed" == deployment.state


@pytest.mark.parametrize("name", ["forever", "hold"])
def test_close_ends_open_streams_quickly_and_silently(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Workers that would go on for hours are not waited for, their callers are told, and no thread prints."""
    failures: list[Exception] = []

    def ask(deployment: Deployment) -> None:
        try:
            deployment.ask(*(["x"] if name == "hold" else []), api=name)
        except DeploymentError as error:
            failures.append(error)

    with serve(Front) as deployment:
        asking = [threading.Thread(target=ask, args=(deployment,)) for _ in range(4)]
        for thread in asking:
            thread.start()
        for _ in asking:
            assert Gate.entered.acquire(timeout=WAIT_S)
        began = time.monotonic()
        deployment.close()
        took = time.monotonic() - began
        for thread in asking:
            thread.join(WAIT_S)

    assert took < 1.0
    assert 4 == len(failures)
    assert all("The deployment was closed before the answer was complete" in str(error) for error in failures)
    assert ("", "") == capfd.readouterr()


async def test_close_ends_streams_of_the_readers_own_client(capfd: pytest.CaptureFixture[str]) -> None:
    """A client made in a cell may hold a stream open; it does not hold the deployment."""
    deployment = serve(Front)
    client = await deployment.runtime.endpoint("test.Worker.forever").client()
    stream = await client.random(None)
    assert "first" == (await anext(stream)).data()

    began = time.monotonic()
    await asyncio.to_thread(deployment.close)

    assert time.monotonic() - began < 1.0
    with pytest.raises(StreamIncompleteError):
        await anext(stream)
    with pytest.raises(NoInstancesError):
        await client.random(None)
    assert ("", "") == capfd.readouterr()


def test_close_does_not_wait_for_a_blocked_thread_for_ever() -> None:
    """A handler that blocks is left to end by itself."""
    deployment = serve(Front)
    batch = deployment.ask_many(["x"], api="block", wait=False)
    assert Gate.entered.acquire(timeout=WAIT_S)

    deployment.close(timeout=0.2)

    assert "closed" == deployment.state
    assert batch.finished
    Gate.opened.set()
    until(lambda: threads() == [])


def test_a_closed_deployment_says_so_and_still_shows_what_was() -> None:
    """Traces, logs, the card and explanations stay; whatever needs the graph is refused in one sentence."""
    with serve(Frontend) as deployment:
        deployment.ask("x", request_id="r-1")
    sentence = r"The deployment 'Frontend' is closed; run the cell with serve\(\.\.\.\) again\."

    for refused in (
        lambda: deployment.ask("x"),
        lambda: deployment.stream("x"),
        lambda: deployment.ask_many(3),
        lambda: deployment.scale("DummyWorker", 2),
        lambda: deployment.kill("DummyWorker", 0),
        lambda: deployment.drain("DummyWorker", 0),
    ):
        with pytest.raises(DeploymentError, match=sentence):
            refused()
    assert "ok" == deployment.traces["r-1"].outcome
    assert "r-1" in repr(deployment.explain())
    assert deployment.logs()
    assert {"DummyWorker": 0, "Processor": 0, "Frontend": 0} == deployment.workers
    assert repr(deployment).startswith("<Deployment Frontend: closed at http://127.0.0.1:")
    assert "closed" in deployment._repr_html_()


async def test_async_with_closes_without_blocking_the_loop() -> None:
    """In a cell: `async with serve(Frontend) as deployment`."""
    async with serve(Frontend) as deployment:
        assert 1 == len(await deployment.ask_async("x"))

    assert "closed" == deployment.state
    assert [] == threads()


def test_a_service_that_asks_its_own_deployment_is_refused() -> None:
    """It would wait for itself; the sentence says what to use."""
    sentence = r"A service asked its own deployment .* use depends\(\)"
    with serve(Front) as deployment, pytest.raises(RequestFailedError, match=sentence):
        deployment.ask(api="ask_itself")


def test_a_service_may_ask_another_deployment() -> None:
    """Two graphs have threads of the same names; that is no reason to refuse."""

    @service(dynamo={"namespace": "test"})
    class Outer:
        @api
        async def forward(self, prompt):
            yield OTHER[0].ask(prompt)[0]

    with serve(Outer, name="outer") as outer, serve(Frontend, name="inner") as inner:
        OTHER[:] = [inner]
        assert "DummyWorker-0" == worker_of(outer.ask("x")[0])
        OTHER.clear()


OTHER: list[Deployment] = []


# ---------------------------------------------------------------------------- looking


def test_the_card_says_where_and_what() -> None:
    """URL, routes with their keys, and a row an instance with id, thread and state."""
    with serve(Frontend, workers=TWO) as deployment:
        deployment.ask("x")
        card = deployment._repr_html_()
        instances = list(deployment.instances)

        assert deployment.url in card
        assert "POST /fegenerate {prompt, request_id}" in card
        assert "router <b>round-robin</b> · 1 request traced" in card
        for instance in instances:
            assert f">{instance.worker}<" in card
            assert f">{instance.instance_id}<" in card
            assert f">dynlab-{instance.worker}<" in card
        assert 4 == card.count("● serving")
        deployment.kill("DummyWorker", 0)
        assert "✕ dead" in deployment._repr_html_()
        deployment.router_mode = lambda request, instances: instances[0]
        assert "router <b>&lt;lambda&gt;()</b>" in deployment._repr_html_()
    assert deployment.url not in deployment._repr_html_()


def test_repr_is_one_line() -> None:
    """Name, state, address and who is alive."""
    with serve(Frontend, workers=TWO) as deployment:
        assert (f"<Deployment Frontend: running at {deployment.url}, 2 DummyWorker, 1 Processor, 1 Frontend>") == repr(
            deployment
        )


def test_a_graph_without_http_runs_too() -> None:
    """A worker alone has no port; a client reaches it."""

    async def ask(deployment: Deployment) -> list[Any]:
        client = await deployment.runtime.endpoint("test.Worker.quick").client()
        return [item async for item in await client.round_robin(None, annotated=False)]

    with serve(Worker) as deployment, asyncio.Runner() as runner:
        assert ["Worker-0"] == runner.run(ask(deployment))
        assert "running at no port" in repr(deployment)
        assert "serving" in deployment._repr_html_()


def test_the_processor_is_in_the_graph_by_its_edge() -> None:
    """What a reader serves is followed down to its workers."""
    with serve(Processor) as deployment:
        assert {"DummyWorker": 1, "Processor": 1} == deployment.workers
