"""Traces that draw themselves."""

from __future__ import annotations

from collections.abc import Iterable

from dynlab.tracing import RequestTrace, TraceLog

__all__ = ("Trace", "Traces")


class Trace(RequestTrace):
    """One request."""


class Traces(TraceLog[Trace]):
    """All."""

    def __init__(self, traces: Iterable[Trace] = (), *, max_requests: int = 10_000, seed: int | None = None) -> None:
        super().__init__(traces, make=Trace, max_requests=max_requests, seed=seed)
