"""Notebooks run outside of JupyterLab, cell by cell, in kernels of this checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@contextmanager
def kernel(notebook: Any) -> Iterator[NotebookClient]:
    """Run a fresh kernel that imports this checkout."""
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with client.setup_kernel(env={**os.environ, "PYTHONPATH": path}):
        yield client


def execute(client: NotebookClient, source: str) -> list[Any]:
    """Run a cell of the test's own, and return its outputs."""
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    return list(cell.outputs)


def errors(notebook: Any) -> list[str]:
    return [
        f"{cell.id}: {output.ename}: {output.evalue}"
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    ]


def run_changed(notebook: Any, changes: Mapping[str, str], claims: str, closing: int = 0) -> None:
    """Run all cells with other words in them, then `claims`; the `closing` last ones run after those.

    Each word has to be there: what is not changed any more proves nothing.
    """
    with kernel(notebook) as client:
        cells = [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        source = "\n".join(cell.source for _, cell in cells)
        assert [] == [old for old in changes if old not in source]
        last = len(cells) - closing
        for n, cell in cells[:last]:
            for old, new in changes.items():
                cell.source = cell.source.replace(old, new)
            client.execute_cell(cell, n)
        execute(client, claims)
        for n, cell in cells[last:]:
            client.execute_cell(cell, n)
    assert [] == errors(notebook)


def printed(notebook: Any, cell_id: str) -> str:
    """Return what a cell has printed."""
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")
