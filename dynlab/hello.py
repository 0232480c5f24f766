"""`dynlab hello`: the graph, headless, once in each router mode; the smoke test of an installation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dynlab.hello_world import Frontend
from dynlab.routing.modes import RouterMode
from dynlab.serving.deployment import Deployment, serve
from dynlab.tracing import TraceLog

__all__ = ("hello",)

MODES = (
    RouterMode.ROUND_ROBIN,
    RouterMode.RANDOM,
    RouterMode.POWER_OF_TWO,
    RouterMode.LEAST_LOADED,
    RouterMode.DIRECT,
)


def hello(requests: int, workers: int, seed: int, picture: Path, say: Callable[[str], Any]) -> bool:
    """Send `requests` in each mode, say what came back and who answered, and draw it; False if anything was lost."""
    runs: dict[str, TraceLog[Any]] = {}
    mistakes: list[str] = []
    with serve(Frontend, workers={"DummyWorker": workers}, seed=seed, name="dynlab hello") as deployment:
        say(f"POST {deployment.url}/fegenerate, {requests} requests in each mode")
        for mode in MODES:
            deployment.router_mode = mode
            mistakes += _run(deployment, mode, requests, runs, say)
        say("")
        for line in _table(runs, workers):
            say(line)
    # Imported here: drawing takes a quarter of a second to load, and all else works without it.
    from dynlab.views.pictures import overview_picture  # noqa: PLC0415

    overview = overview_picture(runs)
    say(f"\nThe picture of it: {overview.save(picture).resolve()}")
    for mistake in mistakes:
        say(f"WRONG: {mistake}")
    return not mistakes


def _run(
    deployment: Deployment, mode: RouterMode, requests: int, runs: dict[str, TraceLog[Any]], say: Callable[[str], Any]
) -> list[str]:
    batch = deployment.ask_many(requests)
    answer = next((text for text in batch.answers if text is not None), "no answer")
    say(f"{mode.value:<13} {requests / batch.elapsed_s:6.0f} requests/s   {answer.strip()}")
    runs[mode.value] = batch.traces
    mistakes = [f"{mode.value}: {request_id}: {what}" for request_id, what in list(batch.failures.items())[:3]]
    counts = list(batch.traces.requests_per_worker().values())
    if sum(counts) != requests:
        mistakes.append(f"{mode.value}: {requests} requests were sent, {sum(counts)} were routed")
    if mode is RouterMode.ROUND_ROBIN and max(counts) - min(counts) > 1:
        mistakes.append(f"round robin was not even: {counts}")
    return mistakes


def _table(runs: Mapping[str, TraceLog[Any]], workers: int) -> list[str]:
    """Rows are modes, columns are workers; of many workers only the extremes."""
    shown = min(workers, 12)
    head = "".join(f"{f'w{n}':>6}" for n in range(shown)) + ("   ..." if shown < workers else "")
    lines = [f"{'requests per worker':<20}{head}   busiest"]
    for mode, traces in runs.items():
        counts = list(traces.requests_per_worker().values())
        total = sum(counts) or 1
        cells = "".join(f"{n:>6}" for n in counts[:shown]) + ("   ..." if shown < workers else "")
        lines.append(f"{mode:<20}{cells}   {max(counts, default=0) / total:.1%}")
    return lines
