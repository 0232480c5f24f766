"""The deployment as a card: what runs, where, since when, how loaded. Plain HTML, no widgets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

__all__ = ("CardRow", "card_html")


class CardRow(NamedTuple):
    """One instance. `active` are requests under way, `started_at` seconds of the Unix clock."""

    service: str
    worker: str
    instance_id: int
    thread: str
    state: str
    active: int
    started_at: float


_MARKS = {"serving": "●", "starting": "◌", "draining": "◑", "dead": "✕"}
_CELL = "text-align:left;padding:2px 14px 2px 0;border:0;"


def card_html(
    name: str,
    state: str,
    url: str | None,
    router_mode: str,
    requests: int,
    rows: Sequence[CardRow],
    apis: Mapping[str, Sequence[str]],
) -> str:
    """Draw the card. State is told by a mark and a word, not by colour alone."""
    label = f"Deployment {name}, {state}: {len(rows)} instances, router {router_mode}, {requests} requests traced."
    head = f"<b>{escape(name)}</b> · {escape(state)} · router <b>{escape(router_mode)}</b> · {requests} requests traced"
    where = ""
    if url and state != "closed":
        routes = ", ".join(f"POST /{escape(api)} {{{escape(', '.join(keys))}}}" for api, keys in apis.items())
        where = (
            f'<div><a href="{escape(url)}/docs" target="_blank" rel="noopener">{escape(url)}</a> · '
            f"<code>{routes}</code></div>"
        )
    body = "".join(_service_rows(service, list(group)) for service, group in groupby(rows, key=lambda r: r.service))
    header = "".join(f'<th scope="col" style="{_CELL}">{h}</th>' for h in _HEADER)
    table = f'<table style="border-collapse:collapse;margin-top:6px"><tr>{header}</tr>{body}</table>' if rows else ""
    return (
        f'<div role="group" aria-label="{escape(label)}" style="border:1px solid currentColor;border-radius:6px;'
        f'padding:8px 12px;display:inline-block;max-width:100%">{head}{where}{table}</div>'
    )


_HEADER = ("service", "instance", "id", "thread", "state", "active", "up")


def _service_rows(service: str, rows: list[CardRow], shown: int = 12) -> str:
    """A row an instance; of many instances the first ones, and a sum of the rest."""
    lines = [_row(row, service if n == 0 else "") for n, row in enumerate(rows[:shown])]
    rest = rows[shown:]
    if rest:
        active = sum(row.active for row in rest)
        lines.append(_cells("", f"… and {len(rest)} more", "", "", "", str(active), ""))
    return "".join(lines)


def _row(row: CardRow, service: str) -> str:
    up = time.time() - row.started_at
    since = f"{up:.0f} s" if up < 120 else f"{up / 60:.0f} min"
    state = f"{_MARKS.get(row.state, '?')} {row.state}"
    return _cells(service, row.worker, str(row.instance_id), row.thread, state, str(row.active), since)


def _cells(*texts: str) -> str:
    return "<tr>" + "".join(f'<td style="{_CELL}">{escape(text)}</td>' for text in texts) + "</tr>"
