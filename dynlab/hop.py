"""One tier's part in one request, written on the hot path and interpreted when somebody reads it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from dynlab.clock import now_ns
from dynlab.protocols import Candidate, Instance, RoutingDecision

__all__ = ("Hop",)

MAX_ITEMS = 4096
"""Item times kept per hop; later items are counted, not timed."""


class Hop:
    """One tier's part in a request: from the pick (`routed_ns`) over the handler's start to its end.

    Each attribute is written by one thread at a time; 0 stands for "not yet" in the raw fields, because a
    reader may look while the request runs. The log keeps thousands of hops, so a hop is one flat object: the
    garbage collector visits all that it refers to, again and again.
    """

    __slots__ = (
        "_decision",
        "_detail",
        "_first_item_ns",
        "_inhibited",
        "_instances",
        "_later_ns",
        "_loads",
        "_mode",
        "ended_ns",
        "endpoint",
        "instance_id",
        "items",
        "outcome",
        "parent",
        "routed_ns",
        "service",
        "started_ns",
        "thread",
        "worker",
    )

    def __init__(self, parent: Hop | None, service: str, endpoint: str) -> None:
        self.parent = parent
        self.service = service
        self.endpoint = endpoint
        self.instance_id: int | None = None
        self.worker = ""
        self.thread = ""
        self.routed_ns = 0
        self.started_ns = 0
        self.ended_ns = 0
        self.items = 0
        self.outcome = "running"  # then: ok, stopped, or the name of the error
        self._first_item_ns = 0
        self._later_ns: array[int] | None = None
        self._mode: str | None = None
        self._instances: Sequence[Instance] = ()
        self._loads: tuple[int, ...] = ()
        self._inhibited: frozenset[int] = frozenset()
        self._detail: Mapping[str, Any] | None = None
        self._decision: RoutingDecision | None = None

    def picked(
        self,
        mode: str,
        chosen: Instance,
        instances: Sequence[Instance],
        inhibited: frozenset[int],
        detail: Mapping[str, Any],
    ) -> None:
        """Keep what a pick saw: the loads are copied now, the rest is read later."""
        self.instance_id, self.worker = chosen.instance_id, chosen.worker
        self._mode, self._instances, self._inhibited, self._detail = mode, instances, inhibited, detail
        self._loads = tuple([instance.active_requests for instance in instances])
        self.routed_ns = now_ns()

    def started(self, thread: str) -> None:
        """Note that the handler begins, and where."""
        self.thread, self.started_ns = thread, now_ns()

    def item(self) -> None:
        """Note that an item passed here."""
        items = self.items = self.items + 1
        if items == 1:
            self._first_item_ns = now_ns()
        elif items <= MAX_ITEMS:
            if self._later_ns is None:
                self._later_ns = array("q")
            self._later_ns.append(now_ns())

    def ended(self, outcome: str) -> None:
        self.outcome, self.ended_ns = outcome, now_ns()

    @property
    def item_ns(self) -> Sequence[int]:
        """When each item passed here."""
        later = self._later_ns
        return () if not self._first_item_ns else (self._first_item_ns, *(later if later is not None else ()))

    @item_ns.setter
    def item_ns(self, times: Sequence[int]) -> None:
        self._first_item_ns = times[0] if times else 0
        self._later_ns = array("q", times[1:]) if len(times) > 1 else None

    @property
    def decision(self) -> RoutingDecision | None:
        """Why this instance: None for a hop that nobody picked, such as the Frontend."""
        if self._decision is None and self._mode is not None and self.instance_id is not None:
            candidates = tuple(
                Candidate(i.instance_id, i.worker, load, i.instance_id not in self._inhibited)
                for i, load in zip(self._instances, self._loads, strict=True)
            )
            self._decision = RoutingDecision(self._mode, self.instance_id, candidates, self._detail or {})
        return self._decision

    @decision.setter
    def decision(self, decision: RoutingDecision) -> None:
        self._decision = decision

    @property
    def begin_ns(self) -> int:
        """When the request came to this hop: the pick, or the arrival where nobody picks, or could pick."""
        return self.routed_ns or self.started_ns or self.ended_ns

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    def __repr__(self) -> str:
        return f"<Hop {self.service}.{self.endpoint} on {self.worker or '?'}: {self.items} items, {self.outcome}>"
