"""The marks on methods: what they accept, how a request is parsed, and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from dynlab.errors import EndpointDefinitionError
from dynlab.protocols import GeneralRequest
from dynlab.runtime.context import Context
from dynlab.sdk.endpoint import (
    ApiSpec,
    EndpointSpec,
    api,
    arguments_of,
    async_on_start,
    bind,
    dynamo_endpoint,
    endpoint,
    on_shutdown,
    specs_of,
)


async def items(handler: Any, request: Any) -> list[Any]:
    return [item async for item in handler(request, Context("r-1"))]


# ---------------------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    "mark", [dynamo_endpoint, dynamo_endpoint(), endpoint, endpoint()], ids=["bare", "brackets", "0.3 bare", "0.3"]
)
def test_all_spellings_of_an_endpoint_are_one(mark: Any) -> None:
    """`@dynamo_endpoint`, `@endpoint`, with or without brackets: the method's name is the endpoint's."""

    class Tier:
        @mark
        async def begenerate(self, request):
            yield 1

    assert [EndpointSpec("begenerate", "begenerate")] == list(specs_of(Tier))


@pytest.mark.parametrize("mark", [api, api()], ids=["bare", "brackets"])
def test_both_spellings_of_an_api_are_one(mark: Any) -> None:
    """`@api` and `@api()` make the same route."""

    class Tier:
        @mark
        async def fegenerate(self, prompt):
            yield 1

    assert [ApiSpec("fegenerate", "fegenerate")] == list(specs_of(Tier))


def test_a_name_may_differ_from_the_methods() -> None:
    """`name=` is what others call."""

    class Tier:
        @dynamo_endpoint(name="generate")
        async def g(self, request):
            yield 1

        @api(name="chat")
        async def c(self, prompt):
            yield 1

    assert [EndpointSpec("generate", "g"), ApiSpec("chat", "c")] == list(specs_of(Tier))


def test_a_marked_method_stays_the_method() -> None:
    """The decorators return the function itself, so it can be called in a test."""

    async def begenerate(self, request):
        yield request

    assert begenerate is dynamo_endpoint()(begenerate)


# ---------------------------------------------------------------------------- requests


class Tier:
    async def model(self, request: GeneralRequest) -> AsyncIterator[str]:
        yield f"{type(request).__name__}:{request.prompt}:{request.request_id}"

    async def text(self, request: str) -> AsyncIterator[Any]:
        yield request

    async def plain(self, request):
        yield request

    async def with_context(self, request: GeneralRequest, context: Context) -> AsyncIterator[str]:
        yield f"{request.prompt} in {context.id()}"

    async def with_untyped_context(self, request, context):
        yield context.id()

    async def with_optional_context(self, request, context=None):
        yield context.id()

    async def with_option(self, request, times=2):
        yield request * times


@pytest.mark.parametrize(
    "request_",
    [
        '{"prompt":"p","request_id":"r"}',
        b'{"prompt":"p","request_id":"r"}',
        {"prompt": "p", "request_id": "r"},
        GeneralRequest(prompt="p", request_id="r").model_dump_json(),
    ],
)
async def test_a_model_is_made_of_json_text_or_a_dict(request_: Any) -> None:
    """With a pydantic annotation (a string here, by `from __future__`), str is parsed and dict is validated."""
    assert ["GeneralRequest:p:r"] == await items(bind(Tier().model), request_)


async def test_a_models_defaults_fill_what_is_missing() -> None:
    """`{}` is a whole request of a model whose fields have defaults."""
    assert ["GeneralRequest:user input:id_string"] == await items(bind(Tier().model), {})


@pytest.mark.parametrize("request_", [7, None, ["p"], 1.5])
async def test_what_is_neither_text_nor_dict_is_an_invalid_request(request_: Any) -> None:
    """The error is a ValueError, as in Dynamo, and says what to send."""
    with pytest.raises(ValueError, match=r"^Invalid request: .*; send a GeneralRequest as") as raised:
        await items(bind(Tier().model), request_)

    assert f"Invalid request: {request_!r} is {type(request_).__name__}; " in str(raised.value)


async def test_a_dict_that_does_not_fit_is_pydantics_error() -> None:
    """The caller sees which key is wrong."""
    with pytest.raises(ValidationError, match="prompt"):
        await items(bind(Tier().model), {"prompt": ["no", "text"]})


@pytest.mark.parametrize("method", [Tier().text, Tier().plain], ids=["annotated str", "not annotated"])
async def test_other_annotations_pass_a_request_through(method: Callable[..., Any]) -> None:
    """Only models parse: JSON text for a `str`, and any value without annotation, arrive as they are."""
    assert ['{"prompt":"p"}'] == await items(bind(method), '{"prompt":"p"}')
    assert [{"a": [1]}] == await items(bind(method), {"a": [1]})


@pytest.mark.parametrize("name", ["with_untyped_context", "with_optional_context"])
async def test_a_second_argument_is_the_context(name: str) -> None:
    """A handler takes `(request)` or `(request, context)`."""
    assert ["r-1"] == await items(bind(getattr(Tier(), name)), "x")


async def test_a_model_and_a_context_go_together() -> None:
    """The request is parsed and the context is passed."""
    assert ["p in r-1"] == await items(bind(Tier().with_context), {"prompt": "p"})


async def test_an_option_of_the_readers_own_is_left_alone() -> None:
    """A second argument with a default that is not called context keeps its default."""
    assert ["xx"] == await items(bind(Tier().with_option), "x")


def test_arguments_are_listed_with_what_their_annotations_mean() -> None:
    """Annotations are strings in this file, and types when they are asked for."""
    found = arguments_of(Tier().with_context)

    assert [("request", GeneralRequest), ("context", Context)] == [(a.name, a.annotation) for a in found]


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    """A missing import is an error with the method's name, before a thread starts."""

    class Lost:
        async def begenerate(self, request: Missing):  # noqa: F821
            yield 1

    with pytest.raises(EndpointDefinitionError, match=r"An annotation of .*begenerate cannot be resolved: .*Missing"):
        bind(Lost().begenerate)


# ---------------------------------------------------------------------------- misuse


async def a_coroutine(self, request): ...


def a_function(self, request): ...


def a_generator(self, request):
    yield 1


async def without_request(self):
    yield 1


async def starred(self, *prompts):
    yield 1


async def keywords(self, **body):
    yield 1


async def positional(self, prompt, /):
    yield 1


NO_STREAM = "it is no async generator; an endpoint streams its answer. Write `async def` and `yield` at least one item."


@pytest.mark.parametrize(
    ("mark", "method", "sentence"),
    [
        (dynamo_endpoint, a_coroutine, f"@dynamo_endpoint() on a_coroutine: {NO_STREAM}"),
        (dynamo_endpoint, a_function, f"@dynamo_endpoint() on a_function: {NO_STREAM}"),
        (dynamo_endpoint, a_generator, f"@dynamo_endpoint() on a_generator: {NO_STREAM}"),
        (
            dynamo_endpoint(),
            without_request,
            (
                "@dynamo_endpoint() on without_request: it takes no request. "
                "Write `async def without_request(self, request)`."
            ),
        ),
        (
            dynamo_endpoint(),
            GeneralRequest,
            "@dynamo_endpoint() belongs on a method of a service, not on <class 'dynlab.protocols.GeneralRequest'>.",
        ),
        (api, a_function, "@api on a_function: write `async def`, best with `yield`."),
        (
            api,
            starred,
            (
                "@api on starred: prompts cannot be a key of a JSON body; name each argument, as in "
                "`fegenerate(self, prompt, request_id)`."
            ),
        ),
        (
            api(),
            keywords,
            (
                "@api on keywords: body cannot be a key of a JSON body; name each argument, as in "
                "`fegenerate(self, prompt, request_id)`."
            ),
        ),
        (
            api(),
            positional,
            (
                "@api on positional: prompt cannot be a key of a JSON body; name each argument, as in "
                "`fegenerate(self, prompt, request_id)`."
            ),
        ),
        (api, 5, "@api belongs on a method of a service, not on 5."),
        (async_on_start, 5, "@async_on_start belongs on a method of a service, not on 5."),
        (on_shutdown, None, "@on_shutdown belongs on a method of a service, not on None."),
    ],
)
def test_misuse_is_refused_with_a_sentence(mark: Any, method: Any, sentence: str) -> None:
    """A method that cannot serve is an error on the line that marks it; also a TypeError."""
    with pytest.raises(EndpointDefinitionError) as raised:
        mark(method)

    assert sentence == str(raised.value)
    assert isinstance(raised.value, TypeError)
