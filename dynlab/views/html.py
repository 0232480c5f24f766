"""HTML that shows itself anywhere: no script, no widget, no stylesheet, and no name that could become markup.

JupyterLab drops from an untrusted notebook each colour that is not written out, such as `currentColor` or `var()`,
and GitHub drops all styles. So borders name no colour, colours are plain numbers that stand out from a light page
and from a dark one, and every bar has its number and every mark its word beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = (
    "BAD",
    "BAR",
    "GOOD",
    "MUTED_OPACITY",
    "PENDING",
    "Box",
    "Html",
    "bar",
    "clock_time",
    "counted",
    "duration",
    "flow",
    "framed",
    "joined",
    "mark",
    "marked",
    "milliseconds",
    "muted",
    "outcome_state",
    "sign",
    "striped",
    "table",
    "tag",
)

GOOD, BAD, PENDING = "#1E8E3E", "#D93025", "#AD6F00"
BAR = "#4A7FB5"
MUTED_OPACITY = 0.75  # of the page's own ink: a grey that suits both themes does not exist

_MARKS = {
    "serving": ("●", GOOD),
    "running": ("●", GOOD),
    "starting": ("◌", PENDING),
    "draining": ("◑", PENDING),
    "dead": ("✕", BAD),
    "closed": ("○", ""),
    "ok": ("✓", GOOD),
    "stopped": ("■", PENDING),
    "under way": ("◌", PENDING),
    "failed": ("✕", BAD),
}
_EDGE = "rgba(128,128,128,0.4)"
_TRACK = "rgba(128,128,128,0.22)"


class Html(str):
    """Markup. Every other string is text, and is escaped when it becomes part of an element."""

    __slots__ = ()


def tag(name: str, *parts: object, **attributes: str) -> Html:
    """Make an element; `aria_label=` becomes `aria-label`."""
    given = "".join(f' {key.replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value)
    return Html(f"<{name}{given}>{joined(parts)}</{name}>")


def joined(parts: Iterable[object], by: str = "") -> Html:
    """Put parts one after the other; empty ones are left out."""
    texts = [part if isinstance(part, Html) else escape(str(part)) for part in parts]
    return Html(escape(by).join(text for text in texts if text))


def muted(*parts: object) -> Html:
    """Say something in a lower voice."""
    return tag("span", *parts, style=f"opacity:{MUTED_OPACITY}")


def mark(state: str) -> Html:
    """Return the coloured mark of a state alone, for where its word stands too."""
    sign, colour = _MARKS.get(state, ("?", ""))
    return tag("span", sign, style=f"color:{colour}") if colour else Html(sign)


def marked(state: str, word: str = "") -> Html:
    """Return mark and word of a state; the word does not rely on the colour, nor the mark."""
    return joined([mark(state), " ", word or state])


def striped(state: str, *parts: object) -> Html:
    """Put a stripe of the state's colour before something that says its mark and word elsewhere."""
    colour = _MARKS.get(state, ("?", ""))[1] or "transparent"
    return tag("span", *parts, style=f"border-left:3px solid {colour};padding-left:7px")


def sign(state: str) -> str:
    """Return mark and word of a state as plain text."""
    return f"{_MARKS.get(state, ('?', ''))[0]} {state}"


def outcome_state(outcome: str) -> str:
    """Say which of four ends a trace's outcome is: every name of an error is `failed`."""
    return {"ok": "ok", "stopped": "stopped", "running": "under way"}.get(outcome, "failed")


def bar(value: float, most: float, *words: object, width: str = "4em") -> Html:
    """Draw a bar and write its number after it; `most` fills it. Where all are 0, there is no bar."""
    if most <= 0:
        return joined(words)
    part = 100 * min(value / most, 1)
    fill = tag("span", style=f"display:block;height:100%;width:{part:.0f}%;background-color:{BAR};border-radius:2px")
    track = tag(
        "span",
        fill if part else "",
        style=f"display:inline-block;width:{width};height:0.6em;background-color:{_TRACK};border-radius:2px",
    )
    return joined([track, " ", *words])


def table(header: Sequence[object], groups: Iterable[Sequence[tuple[str, Sequence[object]]]]) -> Html:
    """Make a table of groups of rows, a line between groups. A row is its style and its cells, the first its name."""
    cell = "text-align:left;vertical-align:baseline;padding:2px 12px 2px 0;white-space:nowrap"
    head = [tag("th", muted(name), scope="col", style=f"{cell};font-weight:normal") for name in header]
    body = [
        tag(
            "tr",
            tag("th", cells[0], scope="row", style=f"{cell};font-weight:normal{border};{style}"),
            *(tag("td", text, style=f"{cell}{border};{style}") for text in cells[1:]),
            style="background-color:transparent",  # JupyterLab paints every second row
        )
        for group in groups
        for place, (style, cells) in enumerate(group)
        for border in [f";border-top:1px solid {_EDGE}" if place == 0 else ""]
    ]
    # JupyterLab gives tables fixed columns, and centres them.
    style = "table-layout:auto;border-collapse:collapse;margin:6px 0 0;font-size:100%"
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", *head, style="border:0")), tag("tbody", *body), style=style),
        style="overflow-x:auto",
    )


@dataclass(frozen=True)
class Box:
    """One stop of a way: its name, lines below it, and what stands above and below the arrow that leads to it."""

    name: object
    lines: tuple[object, ...] = ()
    above: object = ""
    below: object = ""
    arrow: bool = True


def flow(label: str, columns: Iterable[Sequence[Box]]) -> Html:
    """Draw a way from left to right; boxes of one column stand one above the other. `label` says it in words."""
    stack = "display:flex;flex-direction:column;gap:6px"
    drawn = [tag("div", *map(_stop, column), style=stack) for column in columns if column]
    way = "display:flex;flex-wrap:wrap;align-items:center;gap:6px 0;margin:8px 0 4px"
    return tag("div", *drawn, role="img", aria_label=label, style=way)


def _stop(box: Box) -> Html:
    small = "white-space:nowrap;font-size:90%;padding:0 4px"
    line = tag("div", style="border-top:1px solid;flex-grow:1;height:0")
    arrow = tag(
        "div",
        tag("div", box.above or Html("&nbsp;"), style=small),
        tag("div", line, tag("div", "▶", style="font-size:70%;line-height:1"), style="display:flex;align-items:center"),
        tag("div", muted(box.below) if box.below else Html("&nbsp;"), style=small),
        style="display:flex;flex-direction:column;text-align:center;min-width:40px;margin:0 4px",
    )
    body = tag(
        "div",
        tag("div", tag("b", box.name)),
        *(tag("div", line, style="font-size:90%") for line in box.lines),
        style="border:1px solid;border-radius:6px;padding:4px 8px;white-space:nowrap;flex-grow:1",
    )
    return tag("div", arrow if box.arrow else "", body, style="display:flex;align-items:center")


def framed(label: str, *parts: object) -> Html:
    """Put a frame around a view; `label` is what a screen reader says of it."""
    style = "display:inline-block;box-sizing:border-box;max-width:100%;padding:8px 14px;border-radius:8px;font-size:93%"
    return tag(
        "div", *parts, role="group", aria_label=label, style=f"{style};border:1px solid {_EDGE};line-height:1.45"
    )


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 request`, `2 requests`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def clock_time(seconds: float) -> str:
    """Return the time of day of a Unix time, as the kernel's clock shows it."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def milliseconds(ms: float) -> str:
    """Return a time in three digits or more."""
    return f"{ms:.{2 if ms < 10 else 1 if ms < 100 else 0}f} ms"


def duration(seconds: float) -> str:
    """Return an age in the one unit that suits it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
