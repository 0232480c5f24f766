"""Traces that draw themselves: what `deployment.traces` is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Literal, Self

from dynlab.protocols import RoutingDecision
from dynlab.trace_files import read_traces, write_chrome, write_jsonl
from dynlab.trace_log import TraceLog
from dynlab.trace_otlp import write_otlp
from dynlab.tracing import RequestTrace
from dynlab.views.figure import Picture

__all__ = ("Trace", "Traces")

# matplotlib takes a quarter of a second to load, so the drawing functions are imported when something is drawn.


class Trace(RequestTrace):
    """One request."""

    __slots__ = ()

    def plot(self) -> Picture:
        """Draw the request's way through the tiers, and where its time went."""
        from dynlab.views.pictures import waterfall_picture  # noqa: PLC0415

        return waterfall_picture(self)

    def plot_score_card(self) -> Picture:
        """Draw what each worker would have cost at the request's last pick by cost, and why the cheapest is so."""
        from dynlab.views.pictures import score_card_picture  # noqa: PLC0415

        picks = self.decisions
        by_cost = [decision for decision in picks if decision.mode == "kv"]
        return score_card_picture((by_cost or picks or [RoutingDecision("", 0, ())])[-1])

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"


class Traces(TraceLog[Trace]):
    """The newest requests, oldest first; `seed` is what the run was seeded with."""

    def __init__(self, traces: Iterable[Trace] = (), *, max_requests: int = 10_000, seed: int | None = None) -> None:
        super().__init__(traces, make=Trace, max_requests=max_requests, seed=seed)

    def plot_routing(
        self, guess: Sequence[float] | Mapping[str, float] | None = None, service: str | None = None
    ) -> Picture:
        """Draw requests per worker; `guess` is outlined on top."""
        from dynlab.views.pictures import routing_picture  # noqa: PLC0415

        return routing_picture(self, guess, service)

    def plot_picks(self, last: int = 200, service: str | None = None) -> Picture:
        """Draw the newest picks in their order."""
        from dynlab.views.pictures import picks_picture  # noqa: PLC0415

        return picks_picture(self, last, service)

    def plot_lanes(self, service: str | None = None) -> Picture:
        """Draw what each worker served over time, what waited for it, and what idle workers could have taken."""
        from dynlab.views.pictures import lanes_picture  # noqa: PLC0415

        return lanes_picture(self, service)

    def plot_latency(self, what: Literal["total", "ttft"] = "total") -> Picture:
        """Draw how many of the requests were done within a time, a line for each router mode.

        `dynlab.views.pictures.latency_picture({"before": traces, "after": others})` compares several runs.
        """
        from dynlab.views.pictures import latency_picture  # noqa: PLC0415

        return latency_picture(self, what)

    def save(self, path: str | Path, format: Literal["jsonl", "chrome", "otlp"] | None = None) -> Path:
        """Write all traces: `.jsonl` to be loaded again, `.json` for Perfetto and chrome://tracing (and to be loaded).

        `format="otlp"` writes OpenTelemetry's JSON, for Jaeger and the like, with any suffix; `load` does not read it.

        Raises:
            ValueError: for any other suffix or format.
        """
        match format or Path(path).suffix:
            case ".jsonl" | "jsonl":
                return write_jsonl(self, path)
            case ".json" | "chrome":
                return write_chrome(self, path)
            case "otlp":
                return write_otlp(self, path)
        if format:
            raise ValueError(f"format={format!r} is none; traces are saved as 'jsonl', 'chrome' or 'otlp'.")
        raise ValueError(
            f"{path}: traces are saved as .jsonl (JSON Lines) or .json (Chrome trace format); "
            "for Jaeger, as JSON of OpenTelemetry, say format='otlp'."
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            TraceFileError: if the file was not written by dynlab, or is damaged.
        """
        loaded = read_traces(path, Trace)
        return cls(loaded, max_requests=loaded.max_requests, seed=loaded.seed)

    def _like(self, traces: list[Trace]) -> Traces:
        return Traces(traces, max_requests=max(len(traces), 1), seed=self.seed)

    def _repr_html_(self) -> str:
        newest = self.tail(10)
        rows = "".join(
            f"<tr><td>{escape(trace.request_id)}</td><td>{escape(by.worker if (by := trace.answered_by) else '')}</td>"
            f"<td>{_ms(trace.ttft_ms)}</td><td>{_ms(trace.duration_ms)}</td><td>{escape(trace.outcome)}</td></tr>"
            for trace in reversed(newest)
        )
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("request", "worker", "TTFT ms", "in all ms", "outcome")
        )
        return f"<div>{len(self)} requests, the newest {len(newest)}:</div><table><tr>{head}</tr>{rows}</table>"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
