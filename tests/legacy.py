"""Graph files of 2025, imported with `dynamo.sdk` standing for dynlab, and forgotten again."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dynlab.sdk import legacy

FOLDER = Path(__file__).parent / "legacy_graphs"


class GraphFiles:
    """Imports the modules of `tests/legacy_graphs`."""

    def load(self, name: str, *, anew: bool = False) -> ModuleType:
        """Import a graph file; `anew` for a test that changes its classes, by a link for example."""
        if anew:
            forget()
        return importlib.import_module(name)


@contextmanager
def graph_files() -> Iterator[GraphFiles]:
    """Install the hook and put the folder on the path; the process is as it was in the end."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.path.insert(0, str(FOLDER))
    legacy.install()
    try:
        yield GraphFiles()
    finally:
        legacy.uninstall()
        sys.path.remove(str(FOLDER))
        forget()
        # The real configure_dynamo_logging, where there is one, has taken hold of the root logger.
        root.handlers[:] = handlers
        root.setLevel(level)


def forget() -> None:
    """Take the graph files out of the imported modules."""
    for name, module in list(sys.modules.items()):
        if str(FOLDER) in str(getattr(module, "__file__", None) or ""):
            del sys.modules[name]
