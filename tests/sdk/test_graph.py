"""Which services a graph has and how many of each is settled, or refused, before anything starts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from dynlab.config import ServiceConfig
from dynlab.errors import ConfigError, DependencyError, GraphError
from dynlab.hello_world import DummyWorker, Frontend, Processor
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api
from dynlab.sdk.graph import resolve
from dynlab.sdk.service import DynamoService, service
from dynlab.serving.serve import serve


class Settings(BaseModel):
    router: str = "random"


def tier(name: str, *callees: DynamoService, **arguments: Any) -> DynamoService:
    """Make a service that depends on others."""
    return service(**arguments)(type(name, (), {f"on_{n}": depends(callee) for n, callee in enumerate(callees)}))


def front(name: str, *callees: DynamoService) -> DynamoService:
    """Make a service with an API that depends on others."""

    async def ask(self, prompt):
        yield prompt

    edges = {f"on_{n}": depends(callee) for n, callee in enumerate(callees)}
    return service()(type(name, (), {"ask": api(ask), **edges}))


# ---------------------------------------------------------------------------- who


def test_callees_come_before_callers() -> None:
    """The hello world is three services, the workers first."""
    graph = resolve(Frontend)

    assert (DummyWorker, Processor, Frontend) == graph.services
    assert {"DummyWorker": 1, "Processor": 1, "Frontend": 1} == graph.workers
    assert Frontend is graph.entry


def test_a_diamond_has_its_foot_once() -> None:
    """Two callers of one service share it."""
    foot = tier("Foot")
    left, right = tier("Left", foot), tier("Right", foot)

    assert (foot, left, right) == resolve(tier("Top", left, right)).services[:-1]


def test_links_cut_the_graph() -> None:
    """`Front.link(Middle)` starts Front and Middle, and not what Middle depends on."""
    back = tier("Back")
    middle = tier("Middle", back)
    top = tier("Front", middle)
    top.link(middle)

    graph = resolve(top, config=ServiceConfig({"Back": {"any": 1}}))

    assert (middle, top) == graph.services, "and the file of the whole graph is still fine"


def test_a_service_that_no_edge_reaches_joins_by_itself() -> None:
    """`workers={Lonely: 2}` brings in what is only called through the runtime."""
    lonely, top = tier("Lonely"), tier("Top")

    graph = resolve(top, {lonely: 2})

    assert (lonely, top) == graph.services
    assert {"Lonely": 2, "Top": 1} == graph.workers


def test_a_service_is_found_by_its_name_or_itself() -> None:
    """`graph["Processor"]` and `graph[Processor]` are the same; an unknown one gets a hint."""
    graph = resolve(Frontend)

    assert Processor is graph["Processor"]
    assert Processor is graph[Processor]
    with pytest.raises(GraphError) as raised:
        graph["Procesor"]
    assert (
        "No service 'Procesor' in the graph of Frontend; it has DummyWorker, Processor, Frontend. "
        "Did you mean 'Processor'?"
    ) == str(raised.value)
    with pytest.raises(GraphError, match="No service <DynamoService default/Other>"):
        graph[tier("Other")]


# ---------------------------------------------------------------------------- how many


@pytest.mark.parametrize(
    ("decorated", "configured", "given", "expected"),
    [(2, None, None, 2), (2, 3, None, 3), (2, 3, 4, 4), (2, None, 0, 0), (0, None, None, 0), (1, 0, None, 0)],
)
def test_serve_beats_the_config_and_the_config_beats_the_decorator(
    decorated: int, configured: int | None, given: int | None, expected: int
) -> None:
    """Workers: `workers=` of serve, else `ServiceArgs.workers`, else `@service(workers=)`."""
    config = {} if configured is None else {"Back": {"ServiceArgs": {"workers": configured}}}
    back = tier("Back", workers=decorated)

    graph = resolve(tier("Top", back), None if given is None else {"Back": given}, ServiceConfig(config))

    assert expected == graph.workers["Back"]


# ---------------------------------------------------------------------------- misuse


def two_of_one_name() -> object:
    return resolve(tier("Top", tier("Same"), tier("Same")))


def circle() -> object:
    back = tier("Back")
    top = tier("Top", back)
    back.dependencies.append(top)
    return resolve(top)


def two_fronts() -> object:
    return resolve(front("One", front("Two")))


@pytest.mark.parametrize(
    ("misuse", "error", "sentence"),
    [
        (
            lambda: resolve(dict),
            DependencyError,
            "serve() expects a class decorated with @service(), not the class dict.",
        ),
        (lambda: resolve("F"), DependencyError, "serve() expects a class decorated with @service(), not 'F'."),
        (
            two_of_one_name,
            GraphError,
            "Two services of the graph are named 'Same'; instances are found by name, so rename one class.",
        ),
        (
            circle,
            GraphError,
            "The graph is a circle: Top -> Back -> Top. Requests go one way; take one edge out.",
        ),
        (
            two_fronts,
            GraphError,
            "Two, One both have @api methods; a graph has one HTTP front. Keep @api on one.",
        ),
        (
            lambda: resolve(Frontend, {"DummyWorkr": 4}),
            GraphError,
            (
                "workers={'DummyWorkr': 4}: no such service in the graph of Frontend; it has DummyWorker, Processor, "
                "Frontend. Did you mean 'DummyWorker'? If no depends() leads to it, name it by the class: "
                "{DummyWorkr: 4}."
            ),
        ),
        (
            lambda: resolve(Frontend, {"DummyWorker": -1}),
            GraphError,
            "workers={'DummyWorker': -1}: give a number of instances, 0 or more.",
        ),
        (
            lambda: resolve(Frontend, {"DummyWorker": True}),
            GraphError,
            "workers={'DummyWorker': True}: give a number of instances, 0 or more.",
        ),
        (
            lambda: resolve(Frontend, 4),
            GraphError,
            "workers=4: say of which service, as in workers={'DummyWorker': 4}.",
        ),
        (
            lambda: resolve(Frontend, {"Frontend": 2}),
            GraphError,
            "Frontend serves HTTP on one port, so it runs once, not 2 times. Scale the services behind it.",
        ),
        (
            lambda: resolve(Frontend, config=ServiceConfig({"Procesor": {}})),
            ConfigError,
            (
                "The config has a section 'Procesor', but the graph has DummyWorker, Processor, Frontend. "
                "Did you mean 'Processor'?"
            ),
        ),
        (
            lambda: resolve(tier("Top", config=Settings), config=ServiceConfig({"Top": {"ruter": 1}})),
            ConfigError,
            (
                "Top reads no config key 'ruter'; it reads router, and ServiceArgs, common-configs are read by the "
                "launcher. Did you mean 'router'?"
            ),
        ),
    ],
)
def test_misuse_is_refused_with_a_sentence(misuse: Any, error: type[Exception], sentence: str) -> None:
    """What is wrong, what there is, and what to do."""
    with pytest.raises(error) as raised:
        misuse()

    assert sentence == str(raised.value)


def test_nothing_starts_when_the_graph_is_wrong() -> None:
    """`serve` refuses in the cell, before the first thread."""
    before = threading.active_count()

    with pytest.raises(GraphError):
        serve(Frontend, workers={"Dummy": 1})

    assert before == threading.active_count()
