"""dynlab: NVIDIA Dynamo's three-tier serving graph, to hold in a notebook.

    from dynlab import serve
    from dynlab.hello_world import Frontend
    deployment = serve(Frontend, workers={"DummyWorker": 4})
    deployment.ask("test prompt str", request_id="r-1")

The rooms, from the top: `hello_world` (the graph), `lessons` (the exercises), `cli`; `serving` (a graph that runs),
`simulate` (one in virtual time); `sdk` (the decorators), `views` (pictures); `runtime` (planes and clients, on threads
or on Dynamo's own engine); `routing` (who answers), `engine` (what takes time), `kv` (what is cached), `tracing` (what
happened), `config`; `protocols`, `clock`, `errors`.
"""

from dynlab.config import ServiceConfig
from dynlab.errors import DynlabError
from dynlab.nested import allow_nested_run
from dynlab.protocols import EndpointId, GeneralRequest, GeneralResponse, Instance
from dynlab.routing.modes import RouterMode
from dynlab.runtime.context import Context
from dynlab.runtime.local import LocalRuntime
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint, endpoint, on_shutdown
from dynlab.sdk.service import service
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

__all__ = (
    "Context",
    "Deployment",
    "DynlabError",
    "EndpointId",
    "GeneralRequest",
    "GeneralResponse",
    "Instance",
    "LocalRuntime",
    "RouterMode",
    "ServiceConfig",
    "allow_nested_run",
    "api",
    "async_on_start",
    "depends",
    "dynamo_context",
    "dynamo_endpoint",
    "endpoint",
    "on_shutdown",
    "serve",
    "service",
)

__version__ = "0.1.0"
