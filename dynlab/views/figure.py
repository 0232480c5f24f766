"""A picture with its words: the drawing, a sentence that states what it shows, and the data as a folded table."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ("Picture", "Table")

_UNDATED: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
MAX_ROWS = 200
"""Rows of the folded table; the rest is counted in its last line."""


class Table:
    """The data behind a picture: a header and rows of numbers and words."""

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.header = list(header)
        self.rows = [list(row) for row in rows]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
            for row in self.rows[:MAX_ROWS]
        )
        left = len(self.rows) - MAX_ROWS
        more = f'<tr><td colspan="{len(self.header)}">… and {left} more rows</td></tr>' if left > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}{more}</tbody></table>"


class Picture:
    """What `plot()` returns: shown in a notebook with its sentence and its table, saved with `save(path)`."""

    def __init__(self, figure: Figure, label: str, table: Table) -> None:
        self.figure = figure
        self.label = label
        self.table = table

    @property
    def axes(self) -> Axes:
        """The first of the drawing's axes, to add to."""
        return self.figure.axes[0]

    def save(self, path: str | Path) -> Path:
        """Write the drawing; the suffix says how: .png, .svg or .pdf.

        Raises:
            ValueError: for any other suffix.
        """
        target = Path(path)
        if target.suffix not in _UNDATED:
            raise ValueError(f"{target.name}: a picture is saved as .png, .svg or .pdf, not {target.suffix!r}.")
        self.figure.savefig(target, dpi=150, metadata=_UNDATED[target.suffix])
        return target

    def svg(self) -> str:
        """Return the drawing as SVG text, the same text for the same data."""
        out = io.StringIO()
        self.figure.savefig(out, format="svg", metadata=_UNDATED[".svg"])
        return out.getvalue()

    def __repr__(self) -> str:
        return f"<Picture: {self.label}>"

    def _repr_html_(self) -> str:
        # An <img> with alt text inside HTML: JupyterLab drops the alt text of bare images, and of bare SVG.
        data = base64.b64encode(self.svg().encode()).decode()
        label = escape(self.label)
        return (
            f'<figure style="margin:4px 0"><img role="img" alt="{label}" style="max-width:100%;background:#fff" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{label}</figcaption>'
            f"<details><summary>The numbers</summary>{self.table.html()}</details></figure>"
        )
