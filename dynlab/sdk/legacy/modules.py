"""Which module of the SDK of 2025 offers which name (0.1.1, 0.2.x and 0.3.x together); what became of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynlab.runtime.local import LocalRuntime
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import Depends, DynamoClient
from dynlab.sdk.endpoint import async_on_start, on_shutdown
from dynlab.sdk.legacy.config import ServiceConfig
from dynlab.sdk.legacy.endpoint import (
    DynamoTransport,
    abstract_endpoint,
    api,
    dynamo_api,
    dynamo_endpoint,
    endpoint,
    liveness,
    readiness,
)
from dynlab.sdk.legacy.service import DYNAMO_IMAGE, AbstractService, LegacyService, depends, server_context, service

__all__ = ("GONE", "RUNTIME", "SDK")


def configure_dynamo_logging(service_name: str | None = None, worker_id: int | None = None) -> None:
    """Do nothing: where a service's lines go is the deployment's business (`deployment.logs()`)."""


_image = {"DYNAMO_IMAGE": DYNAMO_IMAGE}
_hooks = {"async_on_start": async_on_start, "on_shutdown": on_shutdown, "async_on_shutdown": on_shutdown}
_probes = {"liveness": liveness, "readiness": readiness}
_old_marks = {"dynamo_api": dynamo_api, "dynamo_endpoint": dynamo_endpoint}
_marks = {"abstract_endpoint": abstract_endpoint, "api": api, "endpoint": endpoint}
_interface = {"AbstractService": AbstractService, "DynamoTransport": DynamoTransport}
_core = {"depends": depends, "service": service}
_context = {"dynamo_context": dynamo_context, "server_context": server_context}
_client = {"DynamoClient": DynamoClient}

SDK: Mapping[str, Mapping[str, Any]] = {
    "dynamo.sdk": {
        "AbstractService": AbstractService,
        **_image,
        **_core,
        **_marks,
        **_old_marks,
        **_hooks,
        **_probes,
        **_context,
    },
    "dynamo.sdk.lib": {},
    "dynamo.sdk.lib.config": {"ServiceConfig": ServiceConfig},
    "dynamo.sdk.lib.decorators": {**_hooks, **_old_marks},
    "dynamo.sdk.lib.dependency": {**_client, "DynamoDependency": Depends, "depends": depends},
    "dynamo.sdk.lib.image": _image,
    "dynamo.sdk.lib.service": {"DynamoService": LegacyService, "service": service},
    "dynamo.sdk.core": {},
    "dynamo.sdk.core.decorators": {},
    "dynamo.sdk.core.decorators.endpoint": {**_client, **_marks, **_old_marks},
    "dynamo.sdk.core.lib": {**_image, **_core, **_probes},
    "dynamo.sdk.core.protocol": {},
    "dynamo.sdk.core.protocol.interface": {**_interface, "abstract_endpoint": abstract_endpoint},
}
"""Every module of `dynamo.sdk` that can be imported, with its names."""

RUNTIME: Mapping[str, Mapping[str, Any]] = {
    "dynamo": {},
    "dynamo.runtime": {"DistributedRuntime": LocalRuntime},
    "dynamo.runtime.logging": {"configure_dynamo_logging": configure_dynamo_logging},
}
"""What graph files import besides, where no Dynamo is installed."""

_ENGINE = "It is of Dynamo's own runtime: pip install 'dynlab[dynamo]' (Linux)."
GONE: Mapping[str, str] = {
    "cli": "`dynlab serve --dynamo-sdk module:Class` does what `dynamo serve` did.",
    "runner": "`dynlab serve --dynamo-sdk module:Class` does what `dynamo serve` did.",
    "logging": "Use Python's own logging: the lines of the `dynlab` loggers are in deployment.logs().",
    "LinkedServices": "Links are kept by the services: see `.links` of one.",
    "dynamo_worker": _ENGINE,
    "dynamo_endpoint": _ENGINE,
    "Client": _ENGINE,
}
"""What to do about names that there were, and that dynlab does not offer."""
