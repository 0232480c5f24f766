"""Lets `import dynamo.sdk` mean dynlab, so that graph files of 2025 run as they are (the SDK left Dynamo in 0.4.0).

    from dynlab.sdk import legacy
    legacy.install()
    from dynamo.sdk import api, depends, dynamo_endpoint, service

`dynlab serve --dynamo-sdk` does the same. Nothing is installed unless it is asked for. An installed `dynamo`
package (`ai-dynamo-runtime`) keeps all that is its own: `dynamo.runtime`, `dynamo.llm` and the rest.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

from dynlab.errors import DynlabError, did_you_mean, listed
from dynlab.sdk.legacy.modules import GONE, RUNTIME, SDK
from dynlab.sdk.legacy.service import default_port

__all__ = ("LegacyImportError", "default_port", "install", "installed", "uninstall")

_ELSEWHERE = "Leave it out, or run the file on a Dynamo that still has it: ai-dynamo 0.3.2 or older."
_lock = threading.RLock()
_displaced: dict[str, ModuleType] = {}


class LegacyImportError(DynlabError, ImportError):
    """Graph code imports a name of the SDK of 2025 that dynlab does not offer."""

    def __init__(self, module: str, name: str, available: Sequence[str]) -> None:
        self.available = tuple(available)
        todo = GONE.get(name) or f"{did_you_mean(name, available)} {_ELSEWHERE}".strip()
        super().__init__(f"dynlab's {module} has no {name!r}; it has {listed(available)}. {todo}")
        self.name, self.path = f"{module}.{name}", None


class _Finder(MetaPathFinder, Loader):
    """Makes modules out of a table `{module: {name: value}}`; below the module `closed` there are no others."""

    def __init__(self, table: Mapping[str, Mapping[str, Any]], closed: str) -> None:
        self._table = table
        self._closed = f"{closed}."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in self._table:
            # Each one a package: so that `from module import name` comes here for a name it does not have.
            return importlib.util.spec_from_loader(fullname, self, origin="dynlab", is_package=True)
        parent, _, name = fullname.rpartition(".")
        if fullname.startswith(self._closed) and parent in self._table and self._made(parent):
            children = [m.rpartition(".")[2] for m in self._table if m.rpartition(".")[0] == parent]
            raise LegacyImportError(parent, name, sorted({*self._table[parent], *children}))
        return None

    def exec_module(self, module: ModuleType) -> None:
        names = self._table[module.__name__]
        vars(module).update(names)
        module.__doc__ = f"`{module.__name__}` as Dynamo had it in 2025, made of dynlab."
        module.__all__ = tuple(names)  # type: ignore[attr-defined]

    def made(self) -> list[str]:
        """Return the names of the imported modules that are this finder's."""
        return [name for name in self._table if self._made(name)]

    def _made(self, name: str) -> bool:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        return spec is not None and spec.loader is self


# The SDK goes first, so that it is dynlab's even beside an old Dynamo that has one; the rest comes in only where
# no `dynamo` package is installed.
_sdk = _Finder(SDK, "dynamo.sdk")
_runtime = _Finder(RUNTIME, "dynamo.runtime")


def install() -> None:
    """Let `dynamo.sdk` be dynlab's from now on; doing it twice changes nothing."""
    with _lock:
        if installed():
            return
        theirs = [name for name in sys.modules if f"{name}.".startswith("dynamo.sdk.")]
        _displaced.update({name: _take_out(name) for name in theirs})
        sys.meta_path.insert(0, _sdk)
        sys.meta_path.append(_runtime)


def uninstall() -> None:
    """Take it back: what was imported before is there again; modules that hold the names keep them."""
    with _lock:
        for finder in (_sdk, _runtime):
            if finder in sys.meta_path:
                sys.meta_path.remove(finder)
            for name in sorted(finder.made(), reverse=True):
                _take_out(name)
        for name, module in sorted(_displaced.items()):
            sys.modules[name] = module
            _bind(name, module)
        _displaced.clear()


def installed() -> bool:
    """True between `install` and `uninstall`."""
    return _sdk in sys.meta_path


def _take_out(name: str) -> ModuleType:
    module = sys.modules.pop(name)
    _bind(name, None)
    return module


def _bind(name: str, module: ModuleType | None) -> None:
    """Make a module the attribute of its parent that imports find, or take it away."""
    parent, _, attribute = name.rpartition(".")
    if parent in sys.modules:
        if module is None:
            vars(sys.modules[parent]).pop(attribute, None)
        else:
            setattr(sys.modules[parent], attribute, module)
