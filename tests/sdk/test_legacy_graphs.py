"""What graph files of 2025 rely on beyond the names: links, interfaces, the order of a start, and the configuration."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from dynlab.errors import DependencyError, GraphError
from dynlab.sdk import legacy
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.graph import resolve
from dynlab.sdk.legacy.config import ServiceConfig
from dynlab.sdk.legacy.endpoint import (
    abstract_endpoint,
    api,
    dynamo_endpoint,
    endpoint,
)
from dynlab.sdk.legacy.service import AbstractService, LinkError, depends, server_context, service
from dynlab.sdk.service import DynamoService
from dynlab.serving.serve import serve
from tests.legacy import GraphFiles, graph_files


@pytest.fixture
def graphs() -> Iterator[GraphFiles]:
    with graph_files() as files:
        yield files


async def stream(self, request):
    yield request


def made(**members: Any) -> type:
    return type("Tier", (), members)


def tier(name: str, *callees: Any, since: str = "0.1", base: type = object) -> DynamoService:
    """Make a service of a release, with an endpoint and dependencies."""

    async def generate(self, request):
        yield request

    mark = endpoint() if since == "0.3" else dynamo_endpoint()
    edges = {f"on_{n}": depends(callee) for n, callee in enumerate(callees)}
    return service(dynamo={"namespace": "test"})(type(name, (base,), {"generate": mark(generate), **edges}))


# ---------------------------------------------------------------------------- services


def test_a_service_is_an_object_with_the_class_inside() -> None:
    """`.name`, `.inner` and the address are there, calling it makes an instance; twice is a TypeError."""
    found = service(dynamo={"namespace": "ns"}, image="any", resource={"cpu": 1}, traffic={"timeout": 1})(made())

    assert ("Tier", ("ns", "Tier")) == (found.name, found.dynamo_address())
    assert isinstance(found(), found.inner)
    with pytest.raises(TypeError, match="is a service already"):
        service()(found)


def test_without_dynamo_the_namespace_is_default() -> None:
    """As in 0.1.1, whose HTTP services had none."""
    assert ("default", "Tier") == service(made()).dynamo_address()


def test_workers_may_be_the_number_of_cores() -> None:
    """`workers="cpu_count"`, as 0.1.1 took it."""
    assert os.cpu_count() == service(workers="cpu_count")(made()).workers


def test_a_class_may_inherit_from_a_service() -> None:
    """The class of a service is its base, and the endpoints come along."""
    parent: Any = tier("Parent")

    class Child(parent):
        pass

    assert issubclass(Child, parent.inner)
    assert ["generate"] == [spec.name for spec in service(Child).endpoints]


def test_depends_takes_services_alone() -> None:
    """Anything else is a TypeError."""
    with pytest.raises(DependencyError, match="depends\\(\\) expects a class decorated"):
        depends(made())


# ---------------------------------------------------------------------------- links and interfaces


def test_links_chain_and_cut() -> None:
    """`Front.link(Middle)` returns Middle; Front and Middle start, and not what Middle depends on."""
    back = tier("Back")
    middle = tier("Middle", back)
    front = tier("Front", middle)

    assert middle is front.link(middle)
    assert [middle, front] == list(resolve(front).services)
    assert [back, middle, front] == list(resolve(front, {"Back": 2}).services), "named, it joins"
    assert back is middle.link(back)
    assert [back, middle, front] == list(resolve(front).services)


def test_until_0_2_a_link_need_not_be_a_dependency() -> None:
    """Nobody checked: no error, and what is linked starts."""
    front, stranger = tier("Front", tier("Middle")), tier("Stranger")

    assert stranger is front.link(stranger)


def test_in_0_3_a_link_must_fulfil_one_dependency() -> None:
    """None and two are ValueErrors that say so."""
    middle = tier("Middle", since="0.3")
    stranger = tier("Stranger", since="0.3")

    with pytest.raises(LinkError, match="Stranger does not fulfill any dependencies required by Front") as raised:
        tier("Front", middle, since="0.3").link(stranger)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(LinkError, match="Middle fulfills multiple dependencies required by Front: on_0, on_1"):
        tier("Front", middle, middle, since="0.3").link(middle)


def test_a_link_puts_a_service_in_the_place_of_its_interface(graphs: GraphFiles) -> None:
    """An interface cannot start; linked, the implementation answers what is asked of the interface."""
    graph = graphs.load("interface_graph", anew=True)
    with pytest.raises(GraphError, match="Speaker is an interface, and no service is linked to implement it"):
        resolve(graph.Front)
    with pytest.raises(LinkError, match="Other does not fulfill any dependencies required by Front"):
        graph.Front.link(graph.Other)

    graph.Front.link(graph.Quiet)
    with serve(graph.Front, name="interfaces") as deployment:
        assert ['["(hello)"]'] == deployment.ask(api="say", word="hello")


class Interface(AbstractService):
    @abstract_endpoint
    async def generate(self, request): ...


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "missing implementation\\(s\\): generate"),
        ({"generate": stream}, "method\\(s\\) not decorated with @endpoint: generate"),
        ({"generate": 123}, "generate must be callable, got int"),
    ],
)
def test_an_interface_must_be_implemented(members: dict[str, Any], sentence: str) -> None:
    """A TypeError when the class is decorated, which says what is wrong; the interface itself has no instances."""
    with pytest.raises(TypeError, match=sentence):
        service(type("Broken", (Interface,), members))
    with pytest.raises(TypeError):
        Interface()


def test_what_inherits_from_an_implementation_implements() -> None:
    """A subclass of a service that fulfils the interface does so too."""
    parent: Any = tier("Parent", since="0.3", base=Interface)
    child = service(type("Child", (parent.inner,), {}))
    front = tier("Front", Interface, since="0.3")

    front.link(child)

    assert [child] == front.dependencies


# ---------------------------------------------------------------------------- a start and an end


def test_a_service_starts_in_the_order_of_2025(graphs: GraphFiles) -> None:
    """`__init__` with the context filled, hooks as they are written, then the endpoints; shutdown hooks at the end."""
    graph = graphs.load("interface_graph", anew=True)
    graph.Front.link(graph.Loud)

    with serve(graph.Front, name="order") as deployment:
        started = list(graph.EVENTS)
        loud = next(instance for instance in deployment.instances if instance.service is graph.Loud)
        leases = asyncio.run(first(deployment, "interfaces.Loud.leases"))

    assert ["Loud: __init__", "Loud: second, async", "Loud: first, sync"] == started
    assert [loud.instance_id] * 2 == leases, "the lease of a process is that of each of its endpoints"
    assert ["Front: bye", "Loud: bye"] == graph.EVENTS[3:]


async def first(deployment: Any, path: str) -> Any:
    client = await deployment.runtime.endpoint(path).client()
    items = [item.data() async for item in await client.generate("x")]
    return items[0]


def test_workers_are_counted_from_one() -> None:
    """`dynamo_context["worker_id"]` and BentoML's `server_context` say 1 for the first, as they did."""
    found: list[Any] = []

    class Counted:
        def __init__(self) -> None:
            found.append((server_context.service_name, server_context.worker_index, dynamo_context["runner_map"]))

    with serve(service(workers=2)(Counted)):
        assert [("Counted", 1, "{}"), ("Counted", 2, "{}")] == sorted(found)


# ---------------------------------------------------------------------------- configuration


def test_a_section_becomes_arguments() -> None:
    """True is the option alone, False nothing, a dict JSON; the launcher's keys and other prefixes are left out."""
    section = {"a": 1, "on": True, "off": False, "x-map": {"k": 2}, "ServiceArgs": {"workers": 2}}
    config = ServiceConfig({"Common": {"model": "m", "other": 1}, "S": section | {"common-configs": ["model"]}})

    assert ["--model", "m", "--a", "1", "--on", "--x-map", '{"k": 2}'] == config.as_args("S")
    assert ["--map", '{"k": 2}'] == config.as_args("S", prefix="x-")
    assert [] == config.as_args("Nobody")


def test_a_value_that_must_be_there_is_a_value_error() -> None:
    """`require` names the key."""
    with pytest.raises(ValueError, match=r"S\.key must be configured"):
        ServiceConfig({"S": {}}).require("S", "key")


def test_the_sections_of_other_graphs_are_no_mistake() -> None:
    """One file configured many graphs then; dynlab's own services refuse a section that nobody reads."""
    assert resolve(tier("Front"), config=ServiceConfig({"PrefillWorker": {"x": 1}}))


@pytest.mark.parametrize(
    ("mark", "variable", "port"), [(api, "BENTOML_PORT", 3000), (api(), "DYNAMO_PORT", 8000)], ids=["0.1", "0.3"]
)
def test_the_port_is_that_of_the_release(mark: Any, variable: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """3000 in 0.1 and 8000 later, unless the variable of the release says otherwise."""

    async def ask(self, prompt):
        return prompt

    front = service(made(ask=mark(ask)))
    monkeypatch.delenv(variable, raising=False)

    assert port == legacy.default_port(front)
    monkeypatch.setenv(variable, "3456")
    assert 3456 == legacy.default_port(front)
