"""One tier's part in one request, written on the hot path and interpreted when somebody reads it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias

from dynlab.clock import now_ns
from dynlab.protocols import Candidate, Instance, RoutingDecision

__all__ = ("Hop", "PackedHop", "Roster")

Roster: TypeAlias = tuple[tuple[int, str], ...]
"""Who could be chosen: `(instance_id, worker)`, sorted by id; one object for all picks among the same instances."""
PackedHop: TypeAlias = tuple[Any, ...]
"""A hop that is over, as numbers, words and bytes: the garbage collector lets go of such a tuple at once."""

MAX_ITEMS = 4096
"""Item times kept per hop; later items are counted, not timed."""


_Pick: TypeAlias = tuple[str | None, Roster, Sequence[int], tuple[int, ...], Mapping[str, Any]]
"""The mode, who could be chosen, their loads, who of them was skipped, and what the rule looked at."""
_NO_PICK: _Pick = (None, (), (), (), {})


class Hop:
    """One tier's part in a request: from the pick (`routed_ns`) over the handler's start to its end.

    Each attribute is written by one thread at a time; 0 stands for "not yet" in the raw fields, because a
    reader may look while the request runs. The log packs a hop that is over, for it keeps thousands of them, and
    the garbage collector would visit each again and again.
    """

    __slots__ = (
        "_pick",
        "ended_ns",
        "endpoint",
        "first_item_ns",
        "instance_id",
        "items",
        "later_ns",
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
        self.first_item_ns = 0
        self.later_ns: array[int] | None = None  # of the items after the first
        self._pick = _NO_PICK

    def picked(
        self,
        mode: str,
        chosen: Instance,
        roster: Roster,
        loads: Sequence[int],
        inhibited: tuple[int, ...],
        detail: Mapping[str, Any],
    ) -> None:
        """Keep what a pick saw; `loads` are those of the roster before this request was added to one."""
        self.instance_id, self.worker = chosen.instance_id, chosen.worker
        self._pick = (mode, roster, loads, inhibited, detail)
        self.routed_ns = now_ns()

    def started(self, thread: str) -> None:
        """Note that the handler begins, and where."""
        self.thread, self.started_ns = thread, now_ns()

    def item(self) -> None:
        """Note that an item passed here."""
        items = self.items = self.items + 1
        if items == 1:
            self.first_item_ns = now_ns()
        elif items <= MAX_ITEMS:
            if self.later_ns is None:
                self.later_ns = array("q")
            self.later_ns.append(now_ns())

    def ended(self, outcome: str) -> None:
        self.outcome, self.ended_ns = outcome, now_ns()

    @property
    def item_ns(self) -> Sequence[int]:
        """When each item passed here."""
        later = self.later_ns
        return () if not self.first_item_ns else (self.first_item_ns, *(later if later is not None else ()))

    @item_ns.setter
    def item_ns(self, times: Sequence[int]) -> None:
        self.first_item_ns = times[0] if times else 0
        self.later_ns = array("q", times[1:]) if len(times) > 1 else None

    @property
    def mode(self) -> str | None:
        """The rule that picked, without building the whole decision; None where nobody picked."""
        return self._pick[0]

    @property
    def roster(self) -> Roster:
        """Who was listed at the pick."""
        return self._pick[1]

    @property
    def inhibited(self) -> tuple[int, ...]:
        """The ids of those listed who could not be chosen."""
        return self._pick[3]

    @property
    def detail(self) -> Mapping[str, Any]:
        """What the rule looked at."""
        return self._pick[4]

    @property
    def decision(self) -> RoutingDecision | None:
        """Why this instance: None for a hop that nobody picked, such as the Frontend."""
        mode, roster, loads, inhibited, detail = self._pick
        if mode is None or self.instance_id is None:
            return None
        candidates = tuple(
            Candidate(instance_id, worker, load, instance_id not in inhibited)
            for (instance_id, worker), load in zip(roster, loads, strict=True)
        )
        return RoutingDecision(mode, self.instance_id, candidates, detail)

    @decision.setter
    def decision(self, decision: RoutingDecision) -> None:
        self._pick = (
            decision.mode,
            tuple((c.instance_id, c.worker) for c in decision.candidates),
            tuple(c.active_requests for c in decision.candidates),
            tuple(c.instance_id for c in decision.candidates if not c.eligible),
            decision.detail,
        )

    def pack(self, parent: int | None) -> PackedHop:
        """Return all that there is to know; `parent` is the place of the parent among the request's hops."""
        later = None if self.later_ns is None else self.later_ns.tobytes()
        mode, roster, loads, inhibited, detail = self._pick
        # No dict and no list: only tuples are let go of by the collector.
        flat = tuple(chain.from_iterable(detail.items())) if detail else ()
        return (parent, later, mode, roster, loads, inhibited, flat, *_values(self))

    @classmethod
    def unpack(cls, packed: Sequence[Any], hops: Sequence[Hop]) -> Hop:
        """Make the hop again, below one of `hops`."""
        parent, later, mode, roster, loads, inhibited, flat, *values = packed
        hop = cls(None if parent is None else hops[parent], "", "")
        for name, value in zip(_FIELDS, values, strict=True):
            setattr(hop, name, value)
        hop.later_ns = None if later is None else array("q", later)
        hop._pick = (mode, roster, loads, inhibited, dict(zip(flat[::2], flat[1::2], strict=True)))
        return hop

    @property
    def begin_ns(self) -> int:
        """When the request came to this hop: the pick, or the arrival where nobody picks, or could pick."""
        return self.routed_ns or self.started_ns or self.ended_ns

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    def __repr__(self) -> str:
        return f"<Hop {self.service}.{self.endpoint} on {self.worker or '?'}: {self.items} items, {self.outcome}>"


_FIELDS = tuple(name for name in Hop.__slots__ if name not in ("parent", "later_ns", "_pick"))
_values = attrgetter(*_FIELDS)
