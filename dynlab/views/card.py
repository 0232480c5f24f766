"""The deployment as a card: what runs, where, since when, how loaded. Plain HTML, no widgets."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dynlab.runtime.discovery import Discovery
from dynlab.runtime.local import LocalRuntime
from dynlab.runtime.loops import LoopThread
from dynlab.trace_log import TraceLog
from dynlab.views.html import (
    Box,
    Html,
    bar,
    clock_time,
    counted,
    duration,
    flow,
    framed,
    joined,
    mark,
    marked,
    muted,
    sign,
    striped,
    table,
    tag,
)
from dynlab.views.recent import Recent

__all__ = ("CardRow", "CardTier", "card_html")

RECENT = 1000
"""So many of the newest requests are counted: reading ten thousand would hold up those under way."""
SHOWN = 12
"""Instances of a service that are listed; the rest is folded away below their sum."""
ENDS = ("ok", "failed", "stopped", "under way")
_SAMPLES = {"prompt": "test prompt str", "request_id": "curl-1"}


class Named(Protocol):
    """What the card reads of an endpoint or of a service."""

    @property
    def name(self) -> str: ...


class Running(Protocol):
    """What the card reads of a `ServiceInstance`: views do not know the floor above."""

    worker: str
    instance_id: int
    state: str
    started_at: float
    runtime: LocalRuntime
    thread: LoopThread

    @property
    def active(self) -> int: ...


@dataclass(frozen=True)
class CardRow:
    """One instance. `active` are requests under way; `started_at` and `died_at` are seconds of the Unix clock.

    `listed_s` is for how long discovery will still name a dead one.
    """

    worker: str
    instance_id: int
    thread: str
    state: str
    active: int
    started_at: float
    died_at: float | None = None
    listed_s: float = 0.0

    @classmethod
    def of(cls, instance: Running, discovery: Discovery) -> CardRow:
        died_at, listed_s = None, 0.0
        expires_at = instance.runtime.lease.expires_at
        if expires_at is not None:  # a dead one renews its lease no more: that dates its death
            listed_s = expires_at - discovery.clock.now()
            died_at = time.time() - (discovery.ttl_s - listed_s)
        return cls(
            instance.worker,
            instance.instance_id,
            instance.thread.name,
            instance.state,
            instance.active,
            instance.started_at,
            died_at,
            max(listed_s, 0.0),
        )


@dataclass(frozen=True)
class CardTier:
    """One service: how it is called, whom it calls, and who runs it."""

    name: str
    endpoints: Sequence[Named]
    calls: Sequence[Named]
    rows: Sequence[CardRow]

    @property
    def shown(self) -> list[CardRow]:
        """Those that are there; of many, the dead ones last."""
        rows = [row for row in self.rows if row.state != "closed"]
        return rows if len(rows) <= SHOWN else sorted(rows, key=lambda row: row.state == "dead")


def card_html(
    name: str,
    state: str,
    url: str | None,
    router_mode: str,
    apis: Mapping[str, Sequence[str]],
    tiers: Sequence[CardTier],
    traces: TraceLog[Any],
) -> str:
    """Draw the card; `tiers` stand in the order of a request's way."""
    now = time.time()
    seen = Recent.of(traces.tail(RECENT))
    rows = [row for tier in tiers for row in tier.shown]
    ends = [(outcome, seen.outcomes[outcome]) for outcome in ENDS if seen.outcomes[outcome]]
    label = (
        f"Deployment {name}, {state}: {counted(len(rows), 'instance')}, router {router_mode}, {len(traces)} requests "
        f"traced{''.join(f', {n} {outcome}' for outcome, n in ends)}."
    )
    title = [tag("b", name, style="font-size:115%"), tag("b", marked(state))]
    router = ["router ", tag("b", router_mode), f" · {counted(len(traces), 'request')} traced"]
    if ends:
        router.append(f"; of the newest {seen.requests}: " if seen.requests < len(traces) else ": ")
        errors = f" ({', '.join(name for name, n in seen.errors.most_common(2) if n)})"
        words = {outcome: f"{n} {outcome}{errors if outcome == 'failed' else ''}" for outcome, n in ends}
        router.append(joined([marked(outcome, word) for outcome, word in words.items()], by=", "))
    if seen.blocks:
        router.append(f" · {seen.cached} of {counted(seen.blocks, 'prompt block')} were cached")
    if state == "closed":
        note = "Nothing runs any more; its traces and logs stay. Run the cell with serve(…) to start it again."
        return framed(label, tag("div", joined(title, by=" · ")), tag("div", *router), tag("div", muted(note)))
    if rows:
        since = min(row.started_at for tier in tiers for row in tier.rows)
        title[1] = joined([title[1], f" since {clock_time(since)} ({duration(now - since)})"])
    if url:
        title.append(tag("a", url, href=f"{url}/docs", target="_blank", rel="noopener"))
    return framed(
        label,
        tag("div", joined(title, by=" · ")),
        tag("div", *router),
        _flow(tiers, seen, router_mode, apis),
        _instances(tiers, seen, now) if rows else "",
        _how_to_ask(url, apis) if url else "",
        tag("div", muted(f"As of {clock_time(now)}. Show it again for what is new."), style="font-size:90%"),
    )


def _flow(tiers: Sequence[CardTier], seen: Recent, router_mode: str, apis: Mapping[str, Sequence[str]]) -> Html:
    """Draw client, tiers and the arrows between them."""
    names = [tier.name for tier in tiers]
    callers: dict[str, list[str]] = {}
    depth: dict[str, int] = {}
    for place, tier in enumerate(tiers):
        declared = [caller.name for caller in tiers[:place] if tier.name in [on.name for on in caller.calls]]
        # What no depends() leads to may still be called, through the runtime: then the traces know by whom.
        callers[tier.name] = declared or [name for name in seen.callers.get(tier.name, ()) if name in names[:place]]
        depth[tier.name] = max((depth[name] + 1 for name in callers[tier.name]), default=0)
    width = Counter(depth.values())
    columns: list[list[Box]] = [[] for _ in range(max(width, default=0) + 1)]
    words = []
    for tier in tiers:
        by, below = " / ".join(endpoint.name for endpoint in tier.endpoints[:3]), ""
        if not callers[tier.name]:
            by = " / ".join(f"POST /{api}" for api in apis) if tier is tiers[0] else ""
        else:
            choice = sum(row.state in ("starting", "serving") for row in tier.shown) > 1
            last = seen.rules.get(tier.name)
            below = f"last by {last}" if last else router_mode if choice else ""
            if width[depth[tier.name] - 1] > 1:
                by = f"{' / '.join(callers[tier.name])}: {by}"
        columns[depth[tier.name]].append(Box(tier.name, _load(tier), by, below, arrow=bool(by)))
        words.append(f"{tier.name}{f' by {by}' if by else ''}: {counted(len(tier.shown), 'instance')}")
    client = [[Box("client", arrow=False)]] if apis and tiers else []
    return flow(f"The way of a request: {'; '.join(words)}.", [*client, *columns])


def _load(tier: CardTier) -> tuple[object, ...]:
    """Return a box's lines: a mark an instance, or their number; and what they have to do."""
    rows = tier.shown
    states = Counter(row.state for row in rows)
    if len(rows) <= SHOWN:
        marks = joined([mark(row.state) for row in rows])
    else:
        marks = joined([joined([f"{n} ", mark(state)]) for state, n in states.items()], by="  ")
    active = sum(row.active for row in rows)
    return marks, muted(f"{active} active" if rows else "no instance")


def _instances(tiers: Sequence[CardTier], seen: Recent, now: float) -> Html:
    """A row an instance; of many, the first ones, and the others folded below their sum."""
    busiest = max((row.active for tier in tiers for row in tier.shown), default=0)
    header = ("instance", "id", "state", "active", "requests", "since", "thread")
    groups, folded = [], []
    for tier in tiers:
        rows = tier.shown
        taken = [seen.taken[row.worker] for row in rows]
        lines = [_row(row, seen, sum(taken), max(taken, default=0), busiest, now) for row in rows]
        groups.append(lines[:SHOWN])
        if rest := rows[SHOWN:]:
            states = Counter(row.state for row in rest)
            summary = joined(
                [
                    f"… and {len(rest)} more {tier.name}",
                    *(marked(state, f"{n} {state}") for state, n in states.items()),
                    f"{sum(row.active for row in rest)} active",
                    counted(sum(taken[SHOWN:]), "request"),
                ],
                by=" · ",
            )
            folded.append(tag("details", tag("summary", summary), table(header, [lines[SHOWN:]])))
    return joined([table(header, groups), *folded])


def _row(row: CardRow, seen: Recent, total: int, most: int, busiest: int, now: float) -> tuple[str, Sequence[object]]:
    dead = row.state == "dead"
    taken, failed = seen.taken[row.worker], seen.failed[row.worker]
    share = muted(f" {_percent(taken / total)}") if total else ""
    since = row.died_at if dead else row.started_at
    when = "" if since is None else f"{clock_time(since)} ({duration(now - since)})"
    if row.state == "draining":
        when = f"up {when}"  # it is not known since when it leaves
    listed = muted(f"still listed for {row.listed_s:.0f} s") if dead and row.listed_s > 0 else ""
    broken = marked("failed", f"{failed} failed") if failed else ""
    return "", (
        striped(row.state, tag("s" if dead else "b", row.worker)),
        row.instance_id,
        sign(row.state),
        bar(row.active, busiest, row.active, width="3em"),
        joined([bar(taken, most, taken, share), Html("<br>") if failed else "", broken]),
        joined([when, Html("<br>") if listed else "", listed]),
        muted(row.thread),
    )


def _percent(part: float) -> str:
    return f"{100 * part:.{1 if 0 < part < 0.01 else 0}f} %"


def _how_to_ask(url: str, apis: Mapping[str, Sequence[str]]) -> Html:
    """A line for the terminal for each route, folded."""
    routes = ", ".join(f"POST /{api} {{{', '.join(keys)}}}" for api, keys in apis.items())
    lines = []
    for api, keys in apis.items():
        body = json.dumps({key: _SAMPLES.get(key, "...") for key in keys}, ensure_ascii=False)
        lines.append(
            f"curl -N {shlex.quote(f'{url}/{api}')} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        )
    summary = tag("summary", joined(["Ask it: ", tag("code", routes)]))
    pre = tag("pre", "\n".join(lines), style="white-space:pre-wrap;padding:6px 10px;margin:4px 0")
    return tag("details", summary, pre, style="margin-top:6px")
