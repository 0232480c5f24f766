"""Why this worker: every pick of a request, with every candidate and what the rule looked at, as text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass

from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.tracing import RequestTrace
from dynlab.views.html import (
    MUTED_OPACITY,
    Box,
    Html,
    bar,
    flow,
    framed,
    joined,
    marked,
    milliseconds,
    muted,
    outcome_state,
    table,
    tag,
)
from dynlab.views.kv_terms import Scores
from dynlab.views.style import MODES

__all__ = ("Explanation", "reason", "rule")

MAX_CANDIDATES = 16


def reason(decision: RoutingDecision) -> str:
    """Say in one sentence why the rule chose whom it chose."""
    chosen = _chosen(decision)
    return f"{chosen.worker} (id {chosen.instance_id}): {_why(decision)}."


def _chosen(decision: RoutingDecision) -> Candidate:
    """Return the candidate that was chosen; a trace from a file may not have it."""
    by_id = {c.instance_id: c for c in decision.candidates}
    return by_id.get(decision.instance_id, Candidate(decision.instance_id, "an unknown worker", 0))


def _why(decision: RoutingDecision) -> str:
    chosen = _chosen(decision)
    eligible = _eligible(decision)
    detail = decision.detail
    if not rule(decision):
        return "it was the only one that could be chosen"
    if _is_function(decision):
        return f"the function {rule(decision)} returned it"
    match decision.mode:
        case "round-robin" if isinstance(turn := detail.get("turn"), int):  # counts from 0: `ids[turn % n]`
            falls = f", falls on number {eligible.index(chosen) + 1}" if chosen in eligible else ""
            return f"turn {turn + 1}, counted round and round over {len(eligible)} instances by their ids{falls}"
        case "random":
            return f"drawn from {len(eligible)} instances, all equally likely"
        case "power-of-two" if "sampled" in detail:
            loads = {c.instance_id: c.active_requests for c in decision.candidates}
            drawn = " and ".join(f"{i} ({loads.get(i, '?')} active)" for i in detail["sampled"])
            return f"drew {drawn}; the one with fewer requests in flight wins, the first on a tie"
        case "least-loaded" if "tied" in detail:
            among = f", drawn from {detail['tied']} that tie" if detail["tied"] != 1 else ""
            return f"{chosen.active_requests} active is the fewest of {len(eligible)} instances{among}"
        case "device-aware-weighted" if "device" in detail:
            spare = f"CPUs may have {detail['cpu_budget']} in flight next to what the accelerators have"
            return f"{spare}, so {detail['device']}; {chosen.active_requests} active is the fewest there"
        case "device-aware-weighted" if "tied" in detail:
            return f"all have the same kind of device; {chosen.active_requests} active is the fewest"
        case "kv" if scores := Scores.of(decision):
            return scores.why
        case "direct":
            return "the caller named it"
    return f"{decision.mode} chose it, and the trace does not say what it looked at"


def _eligible(decision: RoutingDecision) -> list[Candidate]:
    return [c for c in decision.candidates if c.eligible]


def _is_function(decision: RoutingDecision) -> bool:
    """True for a reader's own pick function, even one that is called like a mode."""
    return "function" in decision.detail or decision.mode not in MODES


def rule(decision: RoutingDecision) -> str:
    """Return the mode, or the function with brackets; nothing where only one could be chosen."""
    if [_chosen(decision)] == _eligible(decision) and decision.mode != "direct":
        return ""
    return f"{decision.mode}()" if _is_function(decision) else decision.mode


def _drawn(decision: RoutingDecision) -> set[int]:
    """Return the ids of the two that power-of-two drew."""
    return set() if _is_function(decision) else set(decision.detail.get("sampled", ()))


def _tied(decision: RoutingDecision) -> set[int]:
    """Return the ids among which a tie was broken."""
    if decision.mode not in ("power-of-two", "least-loaded"):
        return set()
    drawn = _drawn(decision)
    among = [c for c in _eligible(decision) if c.instance_id in drawn or decision.mode == "least-loaded"]
    least = min((c.active_requests for c in among), default=0)
    tied = {c.instance_id for c in among if c.active_requests == least}
    return tied if len(tied) > 1 else set()


def _notes(decision: RoutingDecision, candidate: Candidate) -> str:
    """Say what a candidate was to the rule."""
    chosen = candidate.instance_id == decision.instance_id
    failed = "it had failed a moment ago" if chosen else "skipped: it failed a moment ago"
    notes = {
        "chosen": chosen,
        "drawn": candidate.instance_id in _drawn(decision),
        "tie": candidate.instance_id in _tied(decision),
        **Scores.of(decision).notes(candidate.instance_id),
        failed: not candidate.eligible,
    }
    return ", ".join(note for note, holds in notes.items() if holds)


def _shown(decision: RoutingDecision) -> list[Candidate]:
    """Return the first candidates in their order, or the cheapest; the chosen and those drawn are always there."""
    cheapest = (score.instance_id for score in Scores.of(decision).shown(MAX_CANDIDATES))
    wanted = {decision.instance_id, *_drawn(decision), *cheapest}
    ranked = sorted(enumerate(decision.candidates), key=lambda nc: (nc[1].instance_id not in wanted, nc[0]))
    return [candidate for _, candidate in sorted(ranked[:MAX_CANDIDATES], key=lambda nc: nc[0])]


def _left_out(decision: RoutingDecision) -> str:
    shown = {c.instance_id for c in _shown(decision)}
    left = {c.instance_id: c.active_requests for c in decision.candidates if c.instance_id not in shown}
    if not left:
        return ""
    span = Scores.of(decision).span(left) or f"{min(left.values())} to {max(left.values())} active"
    return f"… and {len(left)} more candidates, {span}"


@dataclass(frozen=True)
class _Stop:
    """One stop of the way: where, for how long by itself, how it ended; `depth` counts from the client."""

    name: str
    depth: int
    own_ms: float
    outcome: str
    hop: Hop | None = None


@dataclass(frozen=True)
class Explanation:
    """The way of one request through the graph, and each pick on it, in their order."""

    trace: RequestTrace

    @classmethod
    def of(cls, trace: RequestTrace) -> Explanation:
        return cls(trace)

    @property
    def picks(self) -> list[tuple[Hop, RoutingDecision]]:
        return [(hop, decision) for hop in list(self.trace.hops) if (decision := hop.decision) is not None]

    @property
    def decisions(self) -> list[RoutingDecision]:
        return [decision for _, decision in self.picks]

    def __repr__(self) -> str:
        picks = self.picks
        lines = [f"Request {self.trace.request_id!r} -> {self._answerer()}: {self._end()}"]
        if way := " -> ".join(f"{stop.name} {milliseconds(stop.own_ms)}{_failure(stop)}" for stop in self._stops()):
            lines.append(f"  {way}")
        if not picks:
            lines.append("  Nobody had to be picked.")
        for number, (hop, decision) in enumerate(picks, start=1):
            lines.append(f"{number}. {self._title(hop, decision)}: {hop.outcome}")
            lines.append(f"   {reason(decision)}")
            shown = _shown(decision) if len(decision.candidates) > 1 else []
            name = max((len(c.worker) for c in shown), default=0)
            load = max((len(str(c.active_requests)) for c in shown), default=0)
            sums = Scores.of(decision).sums(c.instance_id for c in shown)
            for c in shown:
                arrow = "->" if c.instance_id == decision.instance_id else "  "
                row = f"   {arrow} {c.instance_id}  {c.worker:<{name}}  {c.active_requests:>{load}} active"
                lines.append(f"{row}{sums.get(c.instance_id, '')}  {_notes(decision, c)}".rstrip())
            if left_out := _left_out(decision):
                lines.append(f"      {left_out}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        picks = self.picks
        outcome, answered = self.trace.outcome, self.trace.answered_by
        last = None if answered is None else answered.decision
        head = [
            tag("b", f"{self.trace.request_id} → {self._answerer()}", style="font-size:115%"),
            marked(outcome_state(outcome), "under way" if outcome == "running" else outcome),
            milliseconds(self.trace.duration_ms),
        ]
        why = f"because {': '.join(filter(None, (rule(last), _why(last))))}." if last else "nobody had to be picked."
        label = f"Request {self.trace.request_id} went to {self._answerer()}, {why} Outcome: {self._end()}."
        blocks = [
            self._pick(f"Pick {number} of {len(picks)}", hop, decision, told=hop is answered)
            for number, (hop, decision) in enumerate(picks, start=1)
        ]
        return framed(label, tag("div", joined(head, by=" · ")), tag("div", why), self._strip(), *blocks)

    def _answerer(self) -> str:
        hop = self.trace.answered_by
        return "nobody" if hop is None or not hop.worker else hop.worker

    def _end(self) -> str:
        outcome, took = self.trace.outcome, milliseconds(self.trace.duration_ms)
        return f"under way for {took}" if outcome == "running" else f"{outcome} after {took}"

    def _stops(self) -> list[_Stop]:
        # Imported here: it draws too, and what draws takes a quarter of a second to load.
        from dynlab.views.waterfall import spans_of  # noqa: PLC0415

        hops = list(self.trace.hops)
        spans = spans_of(self.trace)
        client = 1 if spans and self.trace.sent_ns and self.trace.answered_ns else 0
        found = [_Stop(span.name, 0, span.self_ms, span.outcome) for span in spans[:client]]
        for hop, span in zip(hops, spans[client:], strict=False):
            name = hop.worker or f"{hop.service} (nobody)"
            found.append(_Stop(name, hop.depth + client, span.self_ms, hop.outcome, hop))
        return found

    def _strip(self) -> Html:
        """Draw the way with the time that each stop took itself; tries of one call stand one below the other."""
        stops = self._stops()
        whole = sum(stop.own_ms for stop in stops)
        columns: dict[int, list[Box]] = {}
        for stop in stops:
            columns.setdefault(stop.depth, []).append(self._box(stop, whole))
        words = ", then ".join(f"{stop.name} {milliseconds(stop.own_ms)}{_failure(stop)}" for stop in stops)
        note = muted("Times are each stop's own, without its wait for the stops after it.")
        strip = flow(f"Its way: {words}.", [columns[depth] for depth in sorted(columns)])
        return joined([strip, tag("div", note, style="font-size:90%")]) if stops else Html("")

    def _box(self, stop: _Stop, whole: float) -> Box:
        lines: list[object] = [bar(stop.own_ms, whole, milliseconds(stop.own_ms), width="2.5em")]
        if outcome_state(stop.outcome) == "failed":
            lines.append(marked("failed", stop.outcome))
        hop = stop.hop
        if hop is None:
            return Box(stop.name, tuple(lines), arrow=False)
        decision = hop.decision
        above = hop.endpoint if decision or hop.parent else f"POST /{hop.endpoint}"
        name = joined([stop.name, tag("span", self._try(hop), style="font-weight:normal")])
        return Box(name, tuple(lines), above, rule(decision) if decision else "", arrow=stop.depth > 0)

    def _pick(self, title: str, hop: Hop, decision: RoutingDecision, *, told: bool) -> Html:
        """Show one pick: a line where there was no choice, else every candidate."""
        head = [f": {self._title(hop, decision)}"]
        kind = outcome_state(hop.outcome)
        if kind != "ok":
            head.append(marked(kind, hop.outcome if kind == "failed" else kind))
        if not told:
            head.append(reason(decision))
        line = tag("div", tag("b", title), joined(head, by=" · "), style="margin-top:8px")
        if len(decision.candidates) < 2:
            return line
        most = max(c.active_requests for c in decision.candidates)
        scores = Scores.of(decision)
        rows = [_row(decision, c, most, scores) for c in _shown(decision)]
        more = _left_out(decision)
        shown = table(("candidate", "id", "active at the pick", *(scores.header if scores else ()), ""), [rows])
        return joined([line, shown, tag("div", muted(more)) if more else ""])

    def _title(self, hop: Hop, decision: RoutingDecision) -> str:
        return f"{hop.service}.{hop.endpoint}{' by ' * bool(rule(decision))}{rule(decision)}{self._try(hop)}"

    def _try(self, hop: Hop) -> str:
        """Number the tries of a call that failed at first."""
        call = (hop.parent, hop.service, hop.endpoint)
        tries = [other for other in self.trace.hops if (other.parent, other.service, other.endpoint) == call]
        again = any(outcome_state(other.outcome) == "failed" for other in tries[:-1])
        return f", try {tries.index(hop) + 1} of {len(tries)}" if again else ""


def _failure(stop: _Stop) -> str:
    return f" ({stop.outcome})" if outcome_state(stop.outcome) == "failed" else ""


def _row(decision: RoutingDecision, candidate: Candidate, most: int, scores: Scores) -> tuple[str, tuple[object, ...]]:
    """Draw one candidate; who was not even looked at stands back."""
    chosen = candidate.instance_id == decision.instance_id
    drawn = _drawn(decision)
    aside = not candidate.eligible or (drawn and candidate.instance_id not in drawn)
    arrow = tag("span", "➜ " if chosen else "", style="display:inline-block;width:1.4em")
    name = candidate.worker if candidate.eligible else tag("s", candidate.worker)
    return "font-weight:bold" if chosen else f"opacity:{MUTED_OPACITY}" if aside else "", (
        joined([arrow, name]),
        candidate.instance_id,
        candidate.active_requests if scores else bar(candidate.active_requests, most, candidate.active_requests),
        *(scores.cells(candidate.instance_id) if scores else ()),
        _notes(decision, candidate),
    )
