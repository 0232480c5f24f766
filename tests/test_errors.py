"""`dynlab.errors`: each sentence says what happened, the value, what exists and what to do."""

from __future__ import annotations

import linecache
from types import CodeType

import pytest

from dynlab import errors
from dynlab.errors import (
    ConfigError,
    DependencyError,
    DeploymentError,
    DynlabError,
    EndpointDefinitionError,
    GraphError,
    InstanceNotFoundError,
    InstancesTimeoutError,
    NoInstancesError,
    OutsideServiceError,
    PayloadError,
    PickError,
    PortInUseError,
    RequestCancelledError,
    RequestFailedError,
    RoutingError,
    StreamError,
    StreamIncompleteError,
    TraceFileError,
    TraceNotFoundError,
    UnknownEndpointError,
    WorkerUnavailableError,
    did_you_mean,
    listed,
)
from dynlab.protocols import EndpointId, GeneralRequest

ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")

BASES: dict[type[DynlabError], tuple[type[BaseException], ...]] = {
    DependencyError: (GraphError, TypeError),
    EndpointDefinitionError: (GraphError, TypeError),
    UnknownEndpointError: (GraphError, AttributeError),
    OutsideServiceError: (GraphError, KeyError),
    ConfigError: (GraphError, ValueError),
    PortInUseError: (DeploymentError, OSError),
    RequestFailedError: (DeploymentError,),
    TraceNotFoundError: (DynlabError, LookupError),
    TraceFileError: (DynlabError, ValueError),
    NoInstancesError: (RoutingError,),
    InstanceNotFoundError: (RoutingError,),
    InstancesTimeoutError: (RoutingError, TimeoutError),
    WorkerUnavailableError: (RoutingError, ConnectionError),
    PickError: (RoutingError,),
    StreamIncompleteError: (StreamError,),
    RequestCancelledError: (StreamError,),
    PayloadError: (StreamError, TypeError),
}

SENTENCES: list[tuple[DynlabError, str]] = [
    (
        UnknownEndpointError("begenerat", "DummyWorker", ["begenerate", "stats"]),
        (
            "No Dynamo endpoint 'begenerat' found on service 'DummyWorker'. "
            "Available endpoints: begenerate, stats. Did you mean 'begenerate'?"
        ),
    ),
    (
        PortInUseError("127.0.0.1", 3000),
        (
            "Port 3000 on 127.0.0.1 is taken by another program. "
            "Use serve(..., port=0) for a free one, or close what listens there and run the cell again."
        ),
    ),
    (RequestFailedError(500, "no"), "The Frontend answered HTTP 500: no"),
    (RequestFailedError(200, "no", ["a", "b"]), "The Frontend answered HTTP 200 after 2 item(s): no"),
    (
        TraceNotFoundError("r-9", ["r-1", "r-2", "r-3", "r-4"], 4),
        "No trace of request 'r-9'; 4 are kept, the newest: 'r-2', 'r-3', 'r-4'. Did you mean 'r-4'?",
    ),
    (
        NoInstancesError(ENDPOINT),
        (
            "No workers available for endpoint dynamo-demo/DummyWorker/begenerate: no instance has registered. "
            "Start or revive one with scale()."
        ),
    ),
    (
        NoInstancesError(ENDPOINT, [7001, 7002]),
        (
            "No workers available for endpoint dynamo-demo/DummyWorker/begenerate: instances 7001, 7002 failed a "
            "moment ago and are skipped for a while. Start or revive one with scale()."
        ),
    ),
    (
        InstanceNotFoundError(ENDPOINT, 12345, [7001, 7002]),
        "instance_id=12345 not found for endpoint dynamo-demo/DummyWorker/begenerate; available: 7001, 7002.",
    ),
    (
        InstanceNotFoundError(ENDPOINT, 12345, []),
        "instance_id=12345 not found for endpoint dynamo-demo/DummyWorker/begenerate; available: none.",
    ),
    (
        InstancesTimeoutError(ENDPOINT, 1, 2, 0.5),
        (
            "Only 1 of 2 instances of dynamo-demo/DummyWorker/begenerate appeared within 0.5 s. "
            "Start more workers, or ask for fewer."
        ),
    ),
    (
        InstancesTimeoutError(ENDPOINT, 0, 1, 3.0, " Served now: none."),
        "Only 0 of 1 instances of dynamo-demo/DummyWorker/begenerate appeared within 3 s. Served now: none.",
    ),
    (
        WorkerUnavailableError(ENDPOINT, 7001),
        (
            "Connection to instance_id=7001 of endpoint dynamo-demo/DummyWorker/begenerate failed: the worker is dead. "
            "It is skipped for a while; send again, or serve with migration_limit=1 to have that done for you."
        ),
    ),
    (
        PickError(None, [7001, 7002]),
        (
            "The pick function returned None (NoneType); it must return one of the instances it was given: 7001, 7002. "
            "Is a `return` missing?"
        ),
    ),
    (
        StreamIncompleteError(ENDPOINT, 7001, 3),
        (
            "Stream from instance_id=7001 of endpoint dynamo-demo/DummyWorker/begenerate ended after 3 item(s) "
            "because the worker died or was closed. Send the request again."
        ),
    ),
    (
        RequestCancelledError(ENDPOINT, 7001),
        "The handler of dynamo-demo/DummyWorker/begenerate on instance_id=7001 cancelled itself. Send again.",
    ),
    (
        PayloadError(GeneralRequest(), "unsupported type GeneralRequest"),
        (
            "A GeneralRequest cannot travel between tiers: unsupported type GeneralRequest. "
            "Send `.model_dump()` or `.model_dump_json()` of it."
        ),
    ),
    (
        PayloadError(object(), "unsupported type object"),
        (
            "A object cannot travel between tiers: unsupported type object. "
            "Send str, int, float, bool, None, bytes, or lists and dicts of them."
        ),
    ),
    (OutsideServiceError("dynamo_context exists inside a service."), "dynamo_context exists inside a service."),
]


def every_error() -> list[type[DynlabError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DynlabError)]


@pytest.mark.parametrize(("error", "bases"), BASES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_error_is_caught_by_its_branch_and_by_pythons_own_kind(
    error: type[DynlabError], bases: tuple[type[BaseException], ...]
) -> None:
    """Whoever knows only Python's `KeyError` or `OSError` catches dynlab's, and so does `except DynlabError`."""
    assert [] == [base for base in (*bases, DynlabError) if not issubclass(error, base)]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=lambda value: type(value).__name__)
def test_the_sentence(error: DynlabError, sentence: str) -> None:
    """An error reads as one sentence, whatever built-in class it also is."""
    assert sentence == str(error)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The module's docstring draws each class below its own parent, and leaves none out."""
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name, indent = line.split()[0] if line.split() else "", len(line) - len(line.lstrip())
        if not name.endswith("Error"):
            continue
        above = [(depth, parent) for depth, parent in above if depth < indent]
        drawn[name] = above[-1][1] if above else ""
        above.append((indent, name))

    assert {cls.__name__: cls.__bases__[0].__name__ for cls in every_error()} | {"DynlabError": ""} == drawn


def test_every_error_is_offered() -> None:
    """`__all__` names each class of the tree."""
    assert {cls.__name__ for cls in every_error()} | {"did_you_mean", "listed"} == set(errors.__all__)


def test_listed() -> None:
    """What exists is joined by commas; nothing is `none`."""
    assert "7001, 7002" == listed([7001, 7002])
    assert "none" == listed([])


def test_did_you_mean_names_only_what_is_close() -> None:
    """A typing error is met with the nearest name, a stranger with silence."""
    assert " Did you mean 'router'?" == did_you_mean("routre", ["router", "min_worker"])
    assert "" == did_you_mean("zebra", ["router", "min_worker"])


def test_the_values_stay_on_the_error() -> None:
    """A program need not take the sentence apart to get at the numbers."""
    error = InstancesTimeoutError(ENDPOINT, 1, 2, 0.5)

    assert (ENDPOINT, 1, 2, 0.5) == (error.endpoint, error.found, error.at_least, error.timeout)


# ---------------------------------------------------------------------------- in a notebook


def in_cell(name: str, source: str) -> CodeType:
    """Compile source as IPython does a cell, so that its lines can be quoted."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return compile(source, name, "exec")


@pytest.mark.parametrize("folder", ["/var/ipykernel_1/", errors._PACKAGE.rstrip("/") + "-notes/"])
def test_a_notebook_shows_the_sentence_and_the_readers_line(folder: str) -> None:
    """Without dynlab's inner frames: the sentence, then the reader's own line; also in a folder `dynlab-notes`."""
    cell = in_cell(f"{folder}cell.py", "def ask():\n    return EndpointId.parse('a.b')\n\nraise wrong(ask)\n")

    def wrong(ask: object) -> DynlabError:
        return ConfigError("Wrong.")

    with pytest.raises(ConfigError) as caught:
        exec(cell, {"EndpointId": EndpointId, "wrong": wrong})

    assert ["ConfigError: Wrong.", "  line 4, in <module>: raise wrong(ask)"] == caught.value._render_traceback_()


def test_a_notebook_shows_where_the_error_was_raised() -> None:
    """The notes that the tiers added stand below the sentence."""
    error = ConfigError("Wrong.")
    error.add_note("raised by dynamo-demo/DummyWorker/begenerate on instance 7001 (DummyWorker-1)")

    assert ["ConfigError: Wrong.", *error.__notes__] == error._render_traceback_()
