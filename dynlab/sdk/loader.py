"""Finds the graph that `module:Class` names (Dynamo 0.2 and 0.3: `dynamo.sdk.lib.loader`)."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from dynlab.errors import DynlabError, GraphError, did_you_mean, listed
from dynlab.sdk.service import DynamoService

__all__ = ("load_graph",)


def load_graph(path: str) -> DynamoService:
    """Import `module:Class` from the current folder.

    Without a class, of the services that no other leads to: the one named Frontend, else the last.

    Raises:
        GraphError: if there is no such module or service.
    """
    module_name, _, name = path.partition(":")
    module = _import(module_name)
    services = {key: value for key, value in vars(module).items() if isinstance(value, DynamoService)}
    if name:
        if name in services:
            return services[name]
        if hasattr(module, name):
            raise GraphError(f"{module_name}.{name} is no service; decorate the class: @service().")
        raise GraphError(
            f"{module_name} has no service {name!r}; it has {listed(services)}.{did_you_mean(name, services)}"
        )
    if not services:
        raise GraphError(
            f"{module_name} has no services; decorate its classes with @service(), or name another module."
        )
    called = {id(callee) for found in services.values() for callee in [*found.dependencies, *found.links]}
    entries = {found.name: found for found in services.values() if id(found) not in called}
    # There is an entry: edges that go in a circle are refused as they are made.
    return entries.get("Frontend") or list(entries.values())[-1]


def _import(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        guess = name.removesuffix(".py").strip("./").replace("/", ".") or "components.graph"
        raise GraphError(f"{name!r} is no module's name; write module:Class, as in {guess}:Frontend.")
    try:
        return importlib.import_module(name)
    except DynlabError:
        raise
    except ModuleNotFoundError as error:
        if f"{error.name}.".startswith("dynamo.sdk."):
            raise GraphError(
                f"{name} imports {error.name!r}, the SDK that Dynamo had until 0.4.0. dynlab can stand in for it: "
                "dynlab serve --dynamo-sdk, or dynlab.sdk.legacy.install() before the import."
            ) from None
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise GraphError(f"{name} imports {error.name!r}, which is not installed.") from None
        near = did_you_mean(name, [file.stem for file in Path(folder).glob("*.py")])
        raise GraphError(
            f"No module {name!r} in {folder}; write module:Class, as in components.graph:Frontend.{near}"
        ) from None
    except SyntaxError as error:
        raise GraphError(f"{name} cannot be read: {error.filename}, line {error.lineno}: {error.msg}.") from None
    except Exception as error:
        steps = traceback.extract_tb(error.__traceback__)
        own = [step for step in steps if step.filename.startswith(folder)] or steps
        at = f"{own[-1].filename}, line {own[-1].lineno}"
        raise GraphError(f"{name} cannot be imported: {at}: {type(error).__name__}: {error}.") from None
