"""The marks on methods as the releases of 2025 spelled them."""

from __future__ import annotations

from typing import Any

import pytest

from dynlab.errors import EndpointDefinitionError
from dynlab.sdk.endpoint import ApiSpec, EndpointSpec, HookSpec, on_shutdown, specs_of
from dynlab.sdk.legacy.endpoint import (
    DynamoTransport,
    api,
    dynamo_api,
    dynamo_endpoint,
    endpoint,
    liveness,
    readiness,
)
from dynlab.sdk.legacy.modules import SDK

HTTP = [DynamoTransport.HTTP]


async def stream(self, request):
    yield request


async def value(self, request):
    return request


def made(**members: Any) -> type:
    return type("Tier", (), members)


@pytest.mark.parametrize(
    ("mark", "method", "spec"),
    [
        (dynamo_endpoint(), stream, EndpointSpec("stream", "stream")),
        (dynamo_endpoint("named"), stream, EndpointSpec("named", "stream")),
        (dynamo_endpoint(name="named"), stream, EndpointSpec("named", "stream")),
        (dynamo_endpoint(is_api=True), value, ApiSpec("value", "value", "0.3")),
        (dynamo_api(), value, ApiSpec("value", "value", "0.3")),
        (endpoint, stream, EndpointSpec("stream", "stream")),
        (endpoint("named"), stream, EndpointSpec("named", "stream")),
        (endpoint(transports=HTTP), value, ApiSpec("value", "value", "0.3")),
        (api, stream, ApiSpec("stream", "stream", "0.1")),
        (api, value, ApiSpec("value", "value", "0.1")),
        (api(), stream, ApiSpec("stream", "stream", "0.1")),
        (api(), value, ApiSpec("value", "value", "0.3")),
        (api(name="/v1/ask"), value, ApiSpec("v1/ask", "value", "0.3")),
        (liveness, value, HookSpec("liveness", "value")),
    ],
)
def test_each_release_has_its_marks(mark: Any, method: Any, spec: Any) -> None:
    """What marks a method as endpoint or API, and in which dialect it is served."""
    fresh = type(method)(method.__code__, method.__globals__, method.__name__)

    assert [spec] == list(specs_of(made(**{method.__name__: mark(fresh)})))


def test_one_method_may_be_both_probes() -> None:
    """`@liveness` above `@readiness`: it answers on both paths."""
    both = liveness(readiness(lambda self: True))

    assert ["readiness liveness"] == [spec.when for spec in specs_of(made(both=both))]


def test_a_probe_belongs_on_a_method() -> None:
    """As every mark it refuses what is no method."""
    with pytest.raises(EndpointDefinitionError, match="@liveness belongs on a method of a service, not on 5"):
        liveness(5)  # type: ignore[type-var]


def test_shutdown_has_two_names() -> None:
    """`async_on_shutdown` of 0.1 and `on_shutdown` of 0.3 are one."""
    assert on_shutdown is SDK["dynamo.sdk"]["async_on_shutdown"] is SDK["dynamo.sdk"]["on_shutdown"]
