"""`dynlab hello`: the graph, headless, once in each router mode; the smoke test of an installation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dynlab.errors import DynlabError
from dynlab.hello_world import Frontend
from dynlab.routing.modes import PLAIN_MODES, RouterMode
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from dynlab.trace_log import TraceLog

__all__ = ("hello",)

_SHOWN = 12
"""Columns of the table; more workers than that would not fit a line."""


def hello(requests: int, workers: int, seed: int, port: int, picture: Path, say: Callable[[str], Any]) -> bool:
    """Send `requests` in each mode, say what came back and who answered, and draw it; False if anything is wrong.

    Raises:
        DynlabError: if the graph cannot start, or the picture cannot be written.
    """
    runs: dict[str, TraceLog[Any]] = {}
    mistakes: list[str] = []
    with serve(Frontend, workers={"DummyWorker": workers}, seed=seed, port=port, name="dynlab hello") as deployment:
        say(f"POST {deployment.url}/fegenerate, {requests} requests in each mode")
        for mode in PLAIN_MODES:
            deployment.router_mode = mode
            mistakes += _run(deployment, mode, requests, runs, say)
        say("")
        for line in _table(runs, workers):
            say(line)
    # Imported here: drawing takes a quarter of a second to load, and all else works without it.
    from dynlab.views.pictures import overview_picture  # noqa: PLC0415

    try:
        say(f"\nThe picture of it: {overview_picture(runs).save(picture).resolve()}")
    except OSError as error:
        raise DynlabError(
            f"The picture cannot be written to {picture}: {error.strerror or error}. Name another file with --picture."
        ) from None
    for mistake in mistakes:
        say(f"WRONG: {mistake}")
    return not mistakes


def _run(
    deployment: Deployment, mode: RouterMode, requests: int, runs: dict[str, TraceLog[Any]], say: Callable[[str], Any]
) -> list[str]:
    batch = deployment.ask_many(requests)
    answers = [text for text in batch.answers if text is not None]
    sample = answers[0].strip() if answers else "no answer"
    say(f"{mode.value:<13} {requests / batch.elapsed_s:6.0f} requests/s   {sample}")
    runs[mode.value] = batch.traces
    mistakes = [f"{mode.value}: {request_id}: {what}" for request_id, what in list(batch.failures.items())[:3]]
    routed = batch.traces.requests_per_worker()
    counts = list(routed.values())
    if sum(counts) != requests:
        mistakes.append(f"{mode.value}: {requests} requests were sent, {sum(counts)} were routed")
    # The picture is drawn from the traces; who answered stands in the answers too, and both must agree.
    signed = Counter(name for text in answers for name in re.findall(r"_GeneratedBy_([\w-]+)", text))
    if not batch.failures and signed != Counter(routed):
        mistakes.append(f"{mode.value}: the traces say {routed}, the answers are signed {dict(signed)}")
    if mode is RouterMode.ROUND_ROBIN and counts and max(counts) - min(counts) > 1:
        mistakes.append(f"{mode.value} was not even: {counts}")
    return mistakes


def _table(runs: Mapping[str, TraceLog[Any]], workers: int) -> list[str]:
    """Rows are modes, columns are workers; the last column is the largest share of one worker."""
    more = "   ..." if workers > _SHOWN else ""
    head = "".join(f"{f'w{n}':>6}" for n in range(min(workers, _SHOWN)))
    lines = [f"{'requests per worker':<20}{head}{more}   busiest"]
    for mode, traces in runs.items():
        counts = list(traces.requests_per_worker().values())
        cells = "".join(f"{n:>6}" for n in counts[:_SHOWN])
        lines.append(f"{mode:<20}{cells}{more}   {max(counts, default=0) / (sum(counts) or 1):.1%}")
    return lines
