"""What every panel with an ES module of its own is: state in words, a frame to draw, and a still of it as HTML."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

__all__ = ("FRAME_BYTES", "Panel")

STATIC = Path(__file__).parent / "static"
FRAME_BYTES = 20_000
"""The most a frame may weigh as JSON: ten of them a second is what a slow connection to a notebook carries."""


class Panel(anywidget.AnyWidget):
    """Shown by `static/<module>.js`, joined to `common.js`: no build step, and nothing is loaded from elsewhere.

    `said` is the panel's state in words; a screen reader says each change. `frame` is what the module draws, as plain
    JSON values. One thread writes both: the painter while something runs, else whoever handles a press.
    """

    module: ClassVar[str]
    """The name of its ES module in `static`, without the ending; a subclass sets it."""
    said = traitlets.Unicode("").tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "module" in cls.__dict__:
            cls._esm = "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in ("common", cls.module))
            cls._css = (STATIC / "panel.css").read_text("utf-8")

    def still(self) -> str:
        """Return the state as HTML that needs no script; a subclass draws its picture below the words."""
        return f'<div role="status">{escape(self.said)}</div>'

    def draw(self, frame: dict[str, Any], said: str | None = None) -> None:
        """Show a frame, and say what it shows.

        Raises:
            ValueError: if it is heavier than `FRAME_BYTES`: draw fewer marks, or send what changed.
        """
        if (weight := len(json.dumps(frame))) > FRAME_BYTES:
            raise ValueError(f"a frame of {type(self).__name__} weighs {weight} bytes; at most {FRAME_BYTES} are sent")
        self.frame = frame
        if said is not None:
            self.said = said

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        # What a page shows that has no kernel: the last picture instead of an empty box.
        data = {**(data or {}), "text/html": self.still(), "text/plain": repr(self)}
        return data, metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.said}>"
