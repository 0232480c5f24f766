"""`@service` makes a class a tier, and refuses at once what can never run."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from pydantic import BaseModel, Field

from dynlab.config import ServiceConfig
from dynlab.errors import ConfigError, DependencyError, GraphError
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint, endpoint, on_shutdown
from dynlab.sdk.service import DynamoService, service


@service(dynamo={"namespace": "dynamo-demo"}, resources={"cpu": "1"}, workers=3, image="any", envs=[])
class Worker:
    """Answers."""

    def __init__(self, words: int = 1) -> None:
        self.words = words

    @dynamo_endpoint()
    async def begenerate(self, request):
        yield request


class Settings(BaseModel):
    router: str = "random"
    min_worker: int = Field(default=1, ge=0)


# ---------------------------------------------------------------------------- what it makes


def test_a_class_becomes_a_service_with_its_words() -> None:
    """Name, docstring, place and arguments of the decorator are those of the class."""
    assert isinstance(Worker, DynamoService)
    assert ("Worker", "Answers.", 3, {"cpu": "1"}) == (Worker.name, Worker.__doc__, Worker.workers, Worker.resources)
    assert __name__ == Worker.__module__
    assert {"image": "any", "envs": []} == Worker.extras
    assert "<DynamoService dynamo-demo/Worker>" == repr(Worker)


@pytest.mark.parametrize("decorate", [service, service()], ids=["without brackets", "with brackets"])
def test_brackets_are_free(decorate: Any) -> None:
    """`@service` and `@service()` are the same: one worker in the namespace `default`."""

    @decorate
    class Plain:
        pass

    assert (1, ("default", "Plain")) == (Plain.workers, Plain.dynamo_address())


def test_dynamo_address_is_namespace_and_name() -> None:
    """The blog's `comp_ns, comp_name = DummyWorker.dynamo_address()`; the name is the class's, as since 0.2.1."""

    @service(dynamo={"namespace": "ns", "name": "another", "enabled": True})
    class Named:
        pass

    assert ("dynamo-demo", "Worker") == Worker.dynamo_address()
    assert ("ns", "Named") == Named.dynamo_address()


def test_calling_a_service_makes_an_instance_of_the_class() -> None:
    """`Worker(5)` needs no runtime: one method can be tried alone."""
    worker = Worker(5)

    assert 5 == worker.words
    assert type(worker) is Worker.inner


def test_a_protocol_can_be_a_service() -> None:
    """The blog writes `class Processor(Protocol)`, of which Python itself makes no instances."""

    @service(dynamo={"namespace": "dynamo-demo"})
    class Processor(Protocol):
        """Between."""

        def __init__(self) -> None:
            self.ready = True

        @endpoint()
        async def mdgenerate(self, raw_request):
            yield raw_request

    assert Processor().ready
    assert ["mdgenerate"] == [spec.name for spec in Processor.endpoints]
    assert ("Processor", "Between.") == (Processor.name, Processor.__doc__)


def test_what_a_class_offers_is_found_in_the_order_it_is_written() -> None:
    """Endpoints, APIs and hooks keep their order, those of base classes first."""

    class Base:
        @async_on_start
        def first(self) -> None: ...

    @service
    class Tier(Base):
        @async_on_start
        async def second(self) -> None: ...

        @dynamo_endpoint(name="zebra")
        async def z(self, request):
            yield 1

        @dynamo_endpoint
        async def ant(self, request):
            yield 1

        @api
        async def ask(self, prompt):
            yield 1

        @on_shutdown
        def last(self) -> None: ...

    assert ["zebra", "ant"] == [spec.name for spec in Tier.endpoints]
    assert ["ask"] == [spec.name for spec in Tier.apis]
    assert [("start", "first"), ("start", "second"), ("shutdown", "last")] == [
        (hook.when, hook.attribute) for hook in Tier.hooks
    ]


def test_a_subclass_takes_back_what_it_overrides() -> None:
    """An endpoint that a subclass sets to None is no endpoint of the subclass."""

    class Base:
        @dynamo_endpoint
        async def begenerate(self, request):
            yield 1

    @service
    class Mute(Base):
        begenerate = None

    assert [] == Mute.endpoints


# ---------------------------------------------------------------------------- links


def tier(name: str, *callees: DynamoService) -> DynamoService:
    """Make a service that depends on others."""
    return service(type(name, (), {f"on_{callee.name}": depends(callee) for callee in callees}))


def test_link_returns_the_other_end() -> None:
    """`Frontend.link(Processor).link(Worker)` is a chain."""
    back = tier("Back")
    middle = tier("Middle", back)
    front = tier("Front", middle)

    assert back is front.link(middle).link(back)


def test_without_links_all_dependencies_start() -> None:
    """What a service depends on is started with it."""
    back, other = tier("Back"), tier("Other")

    assert [back, other] == tier("Middle", back, other).started_with


def test_a_link_prunes_what_is_not_linked() -> None:
    """Dynamo's rule: a service that takes part in any link starts only with what it is linked to."""
    back, other = tier("Back"), tier("Other")
    middle = tier("Middle", back, other)
    front = tier("Front", middle)

    front.link(middle)

    assert [middle] == front.started_with
    assert [] == middle.started_with, "Front.link(Middle) starts no Back, although Middle depends on it"
    middle.link(other)
    assert [other] == middle.started_with


def test_a_second_link_to_the_same_service_changes_nothing() -> None:
    """Re-running the cell that links is harmless."""
    back = tier("Back")
    front = tier("Front", back)

    front.link(back)
    front.link(back)

    assert [back] == front.started_with


def test_a_circle_of_links_is_refused_and_nothing_is_linked() -> None:
    """A link back is an error that names both ends, and the graph stays as it was."""
    back = tier("Back")
    front = tier("Front", back)

    with pytest.raises(GraphError, match=r"Back\.link\(Front\) closes a circle: Front already leads to Back\."):
        back.link(front)

    assert [] == back.started_with
    assert not front.linked_from


def test_a_service_cannot_be_linked_to_itself() -> None:
    """`A.link(A)` is the smallest circle."""
    front = tier("Front")

    with pytest.raises(GraphError, match="closes a circle"):
        front.link(front)


def test_link_wants_a_service() -> None:
    """A plain class has no place in a graph."""
    with pytest.raises(DependencyError, match=r"Worker\.link\(\) expects a service, not .* Decorate the class"):
        Worker.link(dict)


# ---------------------------------------------------------------------------- misuse


def two_endpoints_of_one_name() -> object:
    class Twice:
        @dynamo_endpoint(name="same")
        async def one(self, request):
            yield 1

        @dynamo_endpoint(name="same")
        async def two(self, request):
            yield 2

    return service(Twice)


@pytest.mark.parametrize(
    ("misuse", "error", "sentence"),
    [
        (lambda: service(Worker), DependencyError, "Worker is a service already; @service() belongs on it once."),
        (lambda: service(len), DependencyError, "@service() belongs on a class, not on <built-in function len>."),
        (
            lambda: service(dynamo={"namspace": "x"})(type("T", (), {})),
            ConfigError,
            (
                "@service(dynamo=...) of T has no key 'namspace'; it has enabled, namespace, name, custom_lease, "
                "component_type. Did you mean 'namespace'?"
            ),
        ),
        (
            lambda: service(workers=-1)(type("T", (), {})),
            ConfigError,
            "@service(workers=-1) of T: give a number of instances, 0 or more.",
        ),
        (
            lambda: service(workers="2")(type("T", (), {})),
            ConfigError,
            "@service(workers='2') of T: give a number of instances, 0 or more.",
        ),
        (two_endpoints_of_one_name, GraphError, "Twice has two endpoint methods named 'same'; give one another name=."),
    ],
)
def test_misuse_is_refused_with_a_sentence(misuse: Any, error: type[Exception], sentence: str) -> None:
    """What cannot run is an error when the class is written, not when it is served."""
    with pytest.raises(error) as raised:
        misuse()

    assert sentence == str(raised.value)


# ---------------------------------------------------------------------------- configuration


def configured() -> DynamoService:
    return service(config=Settings)(type("Processor", (), {}))


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"ruter": "random"},
            (
                "Processor reads no config key 'ruter'; it reads router, min_worker, and ServiceArgs, common-configs "
                "are read by the launcher. Did you mean 'router'?"
            ),
        ),
        ({"min_worker": -1}, "Processor.min_worker=-1: Input should be greater than or equal to 0."),
        (
            {"min_worker": "many"},
            "Processor.min_worker='many': Input should be a valid integer, unable to parse string as an integer.",
        ),
    ],
)
def test_a_config_model_refuses_what_the_service_does_not_read(section: dict[str, Any], sentence: str) -> None:
    """With `config=Model` a misspelt key and a wrong value are errors that name the service and the key."""
    with pytest.raises(ConfigError) as raised:
        configured().check_config(ServiceConfig({"Processor": section}))

    assert sentence == str(raised.value)


def test_a_config_model_takes_what_the_launcher_reads() -> None:
    """`ServiceArgs` and `common-configs` stand in a section without being keys of the service."""
    configured().check_config(
        ServiceConfig(
            {
                "Common": {"router": "random", "other": 1},
                "Processor": {"ServiceArgs": {"workers": 2}, "common-configs": ["router"], "min_worker": 2},
            }
        )
    )


def test_without_a_config_model_any_key_is_fine() -> None:
    """As in Dynamo, where a service just reads what it finds."""
    Worker.check_config(ServiceConfig({"Worker": {"anything": 1}}))
