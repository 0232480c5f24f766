"""What a pick of the mode "kv" was made from, read back from its decision: each worker's cost, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.protocols import RoutingDecision
from dynlab.views.html import bar

if TYPE_CHECKING:
    from dynlab.routing.kv import KvDecision

__all__ = ("Decision", "Score", "Scores", "blocks_text")

Decision: TypeAlias = "RoutingDecision | KvDecision"
"""A pick of a request, or what a `KvRouter` decided."""

_COLUMNS = ("workers", "prefill_tokens", "overlap_blocks", "raw_blocks", "credit", "decode_blocks", "active_requests")
_Row: TypeAlias = tuple[int, float, int, float, float, float, int, float]
"""One worker's entry of each column, and its cost."""


@dataclass(frozen=True, slots=True)
class Score:
    """One worker's cost in blocks: `prompt + queued - credit + decode + weight`, in the router's weights.

    `credit` is what the cached blocks take off, and never more than there is to take it from.
    """

    instance_id: int
    worker: str
    cached: int
    prompt: float
    queued: float
    credit: float
    decode: float
    weight: float
    cost: float

    @property
    def left(self) -> tuple[float, float, float]:
        """What the credit leaves of the prompt, of what is queued, and of decode: it is taken from the first first."""
        credit, parts = self.credit, []
        for part in (self.prompt, self.queued, self.decode):
            parts.append(part - min(part, credit))
            credit -= min(part, credit)
        return parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class Scores:
    """All scores of one pick, in the order of its workers; none if the pick does not say what it looked at."""

    chosen_id: int
    blocks: int
    by_id: Mapping[int, Score]

    @classmethod
    def of(cls, decision: Decision, names: Mapping[int, str] | None = None) -> Scores:
        """Read a decision; `names` are the workers', by id, where it has none itself."""
        names = dict(names or {})
        try:
            if isinstance(decision, RoutingDecision):
                names = {c.instance_id: c.worker for c in decision.candidates} | names
                chosen, detail = decision.instance_id, decision.detail if decision.mode == "kv" else {}
                rows = list(zip(*(detail[name] for name in (*_COLUMNS, "cost")), strict=True))
                tokens, size = detail["isl_tokens"], detail["block_size"]
                scale = detail.get("prefill_load_scale")
                scale = 0.0 if not detail.get("router_track_prefill_tokens", True) else scale
            else:
                chosen, tokens, size = decision.worker_id, decision.isl_tokens, decision.block_size
                rows = [(*(getattr(term, name) for name in _TERMS),) for term in decision.terms]
                scale = None
            scale = _scale(rows) if scale is None else scale
            scores = {row[0]: _score(row, names.get(row[0], f"worker {row[0]}"), tokens / size, scale) for row in rows}
            return cls(chosen, tokens // size, scores if chosen in scores else {})
        except (KeyError, TypeError, ValueError, ZeroDivisionError):  # what an older file, or a damaged one, holds
            return cls(0, 0, {})

    def __iter__(self) -> Iterator[Score]:
        return iter(self.by_id.values())

    def __bool__(self) -> bool:
        return bool(self.by_id)

    @property
    def chosen(self) -> Score:
        return self.by_id[self.chosen_id]

    @property
    def lowest(self) -> list[Score]:
        """Those that share the lowest cost."""
        least = min(score.cost for score in self)
        return [score for score in self if score.cost == least]

    @property
    def fullest(self) -> Score:
        """The one with the most of the prompt cached: of several, the chosen one, or the first."""
        return max(self, key=lambda score: (score.cached, score.instance_id == self.chosen_id))

    @property
    def why(self) -> str:
        """Why the chosen one: its cost among the others', and what it is made of."""
        chosen, lowest = self.chosen, self.lowest
        cost = blocks_text(chosen.cost)
        if chosen not in lowest:
            cheapest = f"{blocks_text(lowest[0].cost)} of {lowest[0].worker}"
            rank = f"cost {cost}, not the lowest ({cheapest}); with a temperature, dearer ones have their chance"
        elif len(lowest) > 1:
            rank = f"cost {cost} is the lowest of {len(self.by_id)} workers, drawn by lot from {len(lowest)} that tie"
        else:
            rank = f"cost {cost} is the lowest of {len(self.by_id)} workers"
        return f"{rank}: {self.made}"

    @property
    def made(self) -> str:
        """What the chosen one's cost is made of."""
        chosen = self.chosen
        prompt, queued, decode = chosen.left
        parts = f"{blocks_text(prompt + queued)} to prefill, {blocks_text(decode)} to decode with"
        weight = f", {blocks_text(chosen.weight)} for its requests" if chosen.weight else ""
        return f"{chosen.cached} of the prompt's {self.blocks} blocks are cached, {parts}{weight}"

    @property
    def finding(self) -> str:
        """The one sentence that a score card is drawn for."""
        if not self:
            return "No scores: kv did not choose here, or the trace does not say what it looked at"
        chosen, lowest, fullest = self.chosen, self.lowest, self.fullest
        text = f"{chosen.worker} wins with {blocks_text(chosen.cost)}".replace("worker ", "Worker ")
        if chosen not in lowest:
            cheapest = f"{lowest[0].worker} costs {blocks_text(lowest[0].cost)}"
            text = f"A temperature let {chosen.worker} win with {blocks_text(chosen.cost)}, though {cheapest}"
        elif len(lowest) > 1:
            text += f", drawn by lot from {len(lowest)} that tie"
        share = f"({fullest.cached} of {self.blocks} blocks)"
        if not fullest.cached:
            return f"{text}; nobody has any of the prompt cached"
        if fullest is chosen:
            return f"{text}; nobody has more of the prompt cached {share}"
        also = ", and" if chosen not in lowest else ", though"
        return f"{text}{also} {fullest.worker} has the most of the prompt cached {share}"

    def notes(self, instance_id: int) -> dict[str, bool]:
        """Say what a worker was among the others."""
        score = self.by_id.get(instance_id)
        if score is None:
            return {}
        lowest = self.lowest
        return {
            "lowest cost": score in lowest and len(lowest) == 1,
            "tie": score in lowest and len(lowest) > 1,
            "most cached": 0 < score.cached == self.fullest.cached,
        }

    def shown(self, most: int) -> list[Score]:
        """Return at most so many, in their order: the chosen, the cheapest and the fullest, then by their cost."""
        if not self:
            return []
        wanted = {self.chosen_id, self.lowest[0].instance_id, self.fullest.instance_id}
        ranked = sorted(self, key=lambda score: (score.instance_id not in wanted, score.cost))
        kept = {score.instance_id for score in ranked[:most]}
        return [score for score in self if score.instance_id in kept]

    def span(self, instance_ids: Iterable[int]) -> str:
        """Say what these workers cost, from the cheapest to the dearest."""
        costs = [self.by_id[each].cost for each in instance_ids if each in self.by_id]
        return f"cost {blocks_text(min(costs))} to {blocks_text(max(costs))}" if costs else ""

    def cells(self, instance_id: int) -> tuple[object, ...]:
        """Return a worker's cells of an HTML table, the cost as a bar; empty ones for a worker without a score."""
        score = self.by_id.get(instance_id)
        if score is None:
            return ("",) * len(self.header)
        *parts, cost = self._numbers(score)
        return (score.cached, *parts, bar(score.cost, max(one.cost for one in self), cost))

    def sums(self, shown: Iterable[int]) -> dict[int, str]:
        """Write out how the costs of these workers add up, one column below the other."""
        rows = {each: self._numbers(self.by_id[each]) for each in shown if each in self.by_id}
        widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
        weight = [" decode + ", " requests = "] if self.weighted else [" decode = "]
        signs = [" prefill - ", " credit + ", *weight, ""]
        return {
            each: "  " + "".join(f"{n:>{width}}{sign}" for n, width, sign in zip(row, widths, signs, strict=True))
            for each, row in rows.items()
        }

    def _numbers(self, score: Score) -> list[str]:
        weight = [score.weight] if self.weighted else []
        return [*map(blocks_text, (score.prompt + score.queued, score.credit, score.decode, *weight, score.cost))]

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the cells."""
        weight = ["+ requests"] if self.weighted else []
        return ("cached blocks", "prefill", "- credit", "+ decode", *weight, "= cost")

    @property
    def weighted(self) -> bool:
        """True if requests on a worker make it dearer in themselves."""
        return any(score.weight for score in self)


_TERMS = ("worker_id", "prefill_tokens", "overlap_blocks", "raw", "credit", "decode_blocks", "active_requests", "cost")


def _scale(rows: Sequence[Any]) -> float:
    """Work out what a block to prefill counts beside one to decode with, where a decision does not say.

    A worker without requests tells it exactly; 0 if prefill does not count at all and credit is taken off decode.
    """
    ratios = []
    for _, _, overlap, raw, credit, decode, requests, cost in rows:
        net = raw - credit * overlap
        if cost < decode and not isclose(cost, decode):
            return 0.0
        if net > 0:
            ratios.append((requests != 0, (cost - decode) / net))
    idle = [ratio for busy, ratio in ratios if not busy]
    same = bool(ratios) and all(isclose(ratio, ratios[0][1]) for _, ratio in ratios)
    return idle[0] if idle else ratios[0][1] if same else 1.0


def _score(row: _Row, worker: str, prompt: float, scale: float) -> Score:
    instance_id, _, overlap, raw, credit, decode, _, cost = row
    prompt, queued = scale * prompt, scale * (raw - prompt)
    off = min((scale or 1.0) * credit * overlap, scale * raw if scale else decode)
    weight = cost - (prompt + queued - off + decode)
    weight = 0.0 if isclose(weight, 0, abs_tol=1e-9) else weight
    return Score(instance_id, worker, int(overlap), prompt, max(0.0, queued), off, decode, weight, cost)


def blocks_text(blocks: float) -> str:
    """Write a number of blocks with as many digits as say something."""
    return f"{round(blocks, 2) + 0.0:g}" if abs(blocks) < 1000 else f"{blocks:,.0f}"
