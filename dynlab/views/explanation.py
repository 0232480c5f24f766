"""Why this worker: every pick of a request, with every candidate and what the rule looked at, as text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.tracing import RequestTrace

__all__ = ("Explanation", "reason")

MAX_CANDIDATES = 16


def reason(decision: RoutingDecision) -> str:
    """Say in one sentence why the rule chose whom it chose."""
    chosen = decision.chosen
    eligible = [c for c in decision.candidates if c.eligible]
    detail = decision.detail
    if len(eligible) == 1 and chosen.eligible and decision.mode != "direct":
        return f"{chosen.worker} (id {chosen.instance_id}): the only one that could be chosen."
    match decision.mode:
        case "round-robin":
            place = eligible.index(chosen) + 1 if chosen in eligible else 1
            why = f"turn {detail['turn']} among {len(eligible)} instances in the order of their ids: number {place}"
        case "random":
            why = f"drawn from {len(eligible)} instances, all equally likely"
        case "power-of-two":
            loads = {c.instance_id: c.active_requests for c in decision.candidates}
            drawn = " and ".join(f"{i} ({loads[i]} active)" for i in detail["sampled"])
            why = f"drew {drawn}; the one with fewer requests in flight wins, the first on a tie"
        case "least-loaded":
            tied = detail["tied"]
            among = f", drawn from {tied} that tie" if tied > 1 else ""
            why = f"{chosen.active_requests} active is the fewest of {len(eligible)} instances{among}"
        case "direct":
            why = "the caller named it"
        case own:
            why = f"the function {own}() returned it"
    return f"{chosen.worker} (id {chosen.instance_id}): {why}."


def _shown(decision: RoutingDecision) -> tuple[Candidate, ...]:
    """Return the first candidates; if the chosen one is not among them, it takes the last one's place."""
    first = decision.candidates[:MAX_CANDIDATES]
    return first if decision.chosen in first else (*first[:-1], decision.chosen)


@dataclass(frozen=True)
class Explanation:
    """The picks of one request, in the order of its way through the graph."""

    request_id: str
    hops: tuple[Hop, ...]

    @classmethod
    def of(cls, trace: RequestTrace) -> Explanation:
        return cls(trace.request_id, tuple(hop for hop in trace.hops if hop.decision is not None))

    @property
    def decisions(self) -> list[RoutingDecision]:
        return [hop.decision for hop in self.hops if hop.decision is not None]

    def __repr__(self) -> str:
        lines = [f"Request {self.request_id!r} was routed {len(self.hops)} time(s)."]
        for hop, decision in zip(self.hops, self.decisions, strict=True):
            lines.append(f"{hop.service}.{hop.endpoint} by {decision.mode}, {hop.outcome}")
            lines.append(f"  chosen: {reason(decision)}")
            for c in _shown(decision):
                mark = "->" if c.instance_id == decision.instance_id else "  "
                skipped = "" if c.eligible else "  skipped: it failed a moment ago"
                lines.append(f"  {mark} {c.instance_id}  {c.worker:<20} {c.active_requests:>4} active{skipped}")
            if len(decision.candidates) > MAX_CANDIDATES:
                lines.append(f"     … and {len(decision.candidates) - MAX_CANDIDATES} more candidates")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        blocks = []
        for hop, decision in zip(self.hops, self.decisions, strict=True):
            most = max((c.active_requests for c in decision.candidates), default=0) or 1
            rows = "".join(
                f'<tr style="{"font-weight:bold" if c.instance_id == decision.instance_id else ""}">'
                f"<td>{'➜' if c.instance_id == decision.instance_id else ''}</td>"
                f"<td style='text-align:left'>{escape(c.worker)}</td><td>{c.instance_id}</td>"
                f"<td style='text-align:left'>{'▮' * round(10 * c.active_requests / most)} {c.active_requests}</td>"
                f"<td style='text-align:left'>{'' if c.eligible else 'skipped: it failed a moment ago'}</td></tr>"
                for c in _shown(decision)
            )
            more = len(decision.candidates) - MAX_CANDIDATES
            blocks.append(
                f"<h4 style='margin:8px 0 2px'>{escape(hop.service)}.{escape(hop.endpoint)} by "
                f"{escape(decision.mode)} · {escape(hop.outcome)}</h4><div>{escape(reason(decision))}</div>"
                "<table style='border-collapse:collapse'><tr><th></th><th style='text-align:left'>candidate</th>"
                f"<th>id</th><th style='text-align:left'>active requests</th><th></th></tr>{rows}</table>"
                + (f"<div>… and {more} more candidates</div>" if more > 0 else "")
            )
        label = f"Why request {self.request_id} went where it went: {' '.join(map(reason, self.decisions))}"
        return f'<div role="group" aria-label="{escape(label)}">{"".join(blocks)}</div>'
