"""What the newest traces tell of a deployment: how requests ended, who took them, and what was cached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dynlab.hop import Hop
from dynlab.tracing import RequestTrace
from dynlab.views.explanation import rule
from dynlab.views.html import outcome_state

__all__ = ("Recent",)


@dataclass
class Recent:
    """How requests ended, who took and failed them, who called whom, and by which rule at last, "" without a choice.

    `cached` of `blocks` prompt blocks were in the cache of the worker that the KV router chose.
    """

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    callers: dict[str, dict[str, None]] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    cached: int = 0
    blocks: int = 0

    @classmethod
    def of(cls, traces: Sequence[RequestTrace]) -> Recent:
        seen = cls()
        for trace in reversed(traces):
            seen.requests += 1
            end = outcome_state(trace.outcome)
            seen.outcomes[end] += 1
            seen.errors[trace.outcome] += end == "failed"
            for hop in list(trace.hops):
                seen.taken[hop.worker] += 1
                seen.failed[hop.worker] += outcome_state(hop.outcome) == "failed"
                if hop.mode == "kv":
                    seen._count_blocks(hop)
                if hop.parent is None:
                    continue  # whoever called was no part of the graph
                seen.callers.setdefault(hop.service, {})[hop.parent.service] = None
                # A decision lists all candidates: only the newest one is worth unpacking.
                if hop.service not in seen.rules and (decision := hop.decision) is not None:
                    seen.rules[hop.service] = rule(decision)
        return seen

    def _count_blocks(self, hop: Hop) -> None:
        detail = hop.detail
        try:
            place = detail["workers"].index(hop.instance_id)
            cached, blocks = int(detail["overlap_blocks"][place]), detail["isl_tokens"] // detail["block_size"]
        except (KeyError, ValueError, IndexError):  # an older file does not say
            return
        self.cached += cached
        self.blocks += blocks
