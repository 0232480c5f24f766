"""Schemathesis reads a Frontend's OpenAPI document, sends what it allows and what it forbids, and finds nothing."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import pytest
import schemathesis
import schemathesis.engine
from pydantic import BaseModel, BeforeValidator, Field, Strict
from schemathesis.engine import events

from dynlab.hello_world import Frontend
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

EXAMPLES = 60
"""Random bodies for each route, after those that Schemathesis makes of every key, type and limit."""


def a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("no number")
    return value


# Integers and booleans of JSON Schema. Pydantic's own take `false` for 0 and 0 for `false`, as FastAPI's bodies do, and
# its strict ones refuse 1.0.
Times = Annotated[int, Field(ge=1, le=3), BeforeValidator(a_number)]
Flag = Annotated[bool, Strict()]


class Inner(BaseModel):
    n: Times
    words: list[str] = []


class Order(BaseModel):
    """A body of its own, as Dynamo 0.3 wrote it."""

    prompt: str = "user input"
    inner: Inner
    more: list[Inner] | None = None


@service(dynamo={"namespace": "schema"})
class Echo:
    @dynamo_endpoint()
    async def echo(self, request):
        yield request


@service(dynamo={"namespace": "schema"})
class Several:
    """Every shape that an `@api` method may have."""

    echo = depends(Echo)

    @api
    async def typed(self, prompt: str, times: Times = 2, how: Literal["a", "b"] = "a", flag: Flag = True):
        """Types, limits and defaults."""
        for _ in range(times):
            yield prompt

    @api
    async def untyped(self, prompt, request_id=None):
        """Values without types travel to a worker and back."""
        async for item in self.echo.echo({"prompt": prompt, "request_id": request_id}):
            yield item

    @api
    async def whole(self, order: Order):
        """A model that is the whole body."""
        yield order

    @api
    async def nested(self, inner: Inner, more: list[Inner] | None = None):
        """Models inside of a body."""
        for each in [inner, *(more or [])]:
            yield each

    @api
    async def defaults(self, prompt: str = "user input"):
        """Every key may be left out, and so the body."""
        yield prompt

    @api
    async def nothing(self):
        """No key at all."""
        yield "nothing"

    @api(name="a-value")
    async def value(self, n: Times, scores: dict[str, str] | None = None):
        """What is returned, not yielded, is answered as JSON."""
        return {"n": n, "scores": scores}


def examine(deployment: Deployment) -> tuple[list[str], Counter[int]]:
    """Run every phase and check of Schemathesis; return what it found, and how often it saw each status."""
    settings = {"generation": {"max-examples": EXAMPLES, "deterministic": True}}
    schema = schemathesis.openapi.from_url(
        f"{deployment.url}/openapi.json", config=schemathesis.Config.from_dict(settings)
    )
    found: list[str] = []
    statuses: Counter[int] = Counter()
    # Its engine, as its command line does; its pytest fixtures do not work with the newest pytest (4.32.5 with 9.2).
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.FatalError | events.NonFatalError):
            found.append(str(event.info if isinstance(event, events.NonFatalError) else event.exception))
        elif isinstance(event, events.ScenarioFinished):
            answers = [i.response for i in event.recorder.interactions.values() if i.response is not None]
            statuses.update(answer.status_code for answer in answers)
            for check in (check for checks in event.recorder.checks.values() for check in checks):
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    found.append(f"{failure.title}: {failure.message}\n{check.failure_info.code_sample}")
    return found, statuses


@pytest.mark.parametrize("entry", [Frontend, Several], ids=["hello world", "several methods"])
def test_schemathesis_finds_nothing(entry: type) -> None:
    """No status, content type or body but those of the document; what it allows is answered, what it forbids refused.

    Whatever is sent, none of it is an error of the server, and nothing of it is left in the logs.
    """
    with serve(entry, name="schema") as deployment:
        found, statuses = examine(deployment)

        assert not found, "\n\n".join(found)
        assert {200, 400, 405, 422} == set(statuses)
        assert statuses[200] > EXAMPLES // 2
        assert [] == [line for line in deployment.logs() if "ERROR" in line]
