"""Which prefix families lie in which worker's cache, by their blocks (W10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.kv.blocks import BLOCK_SIZE
from dynlab.kv.indexer import KvIndexer
from dynlab.trace_log import TraceLog
from dynlab.views.html import counted
from dynlab.views.plots import MANY, Picks, caption, new_axes, short_names
from dynlab.views.prefix_tree import prompt_blocks, worker_names
from dynlab.views.style import INK, MUTED, PAPER, SHARES, TIER, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Family", "Prompts", "Residency", "draw_residency", "plot_residency")

Prompts: TypeAlias = "Iterable[str] | Mapping[str, Iterable[str]]"
"""The prompts of a run, one entry a request, or those of each family by its name."""

MAX_FAMILIES = 24
LETTERS, NAMES = 20, 52
"""Characters that are written of a family's name, and of all workers' names; of longer ones, the numbers."""


@dataclass(frozen=True, slots=True)
class Family:
    """Prompts that begin alike: how many blocks they have, how many anyone holds, and how many each worker holds."""

    name: str
    requests: int
    blocks: int
    cached: int
    held: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        return [held / max(1, self.blocks) for held in self.held]


@dataclass(frozen=True)
class Residency:
    """All families, the most used first, and the workers; `per_worker` counts the requests if there are traces."""

    families: list[Family]
    workers: list[str]
    per_worker: list[int] | None
    block_size: int
    seed: int | None

    @classmethod
    def of(
        cls,
        prompts: Prompts,
        indexer: KvIndexer,
        block_size: int = BLOCK_SIZE,
        family: Callable[[str], str] | None = None,
        workers: Mapping[int, str] | None = None,
        traces: TraceLog[Any] | None = None,
    ) -> Residency:
        """Cut the prompts into blocks, and ask the index who holds them."""
        picks = Picks.of(traces) if traces is not None else None
        if picks is not None and workers is None:
            workers = {each: name for hop in picks.hops for each, name in hop.roster}
        named = worker_names(indexer, workers)
        families = [
            _family(name, asks, indexer, block_size, list(named))
            for name, asks in _grouped(prompts, block_size, family)
        ]
        per_worker = [picks.counts.get(name, 0) for name in named.values()] if picks is not None else None
        return cls(families, list(named.values()), per_worker, block_size, None if picks is None else picks.seed)

    @property
    def finding(self) -> str:
        """The one sentence that the map is drawn for: in how many caches a block lies that lies in any."""
        if not any(each.blocks for each in self.families):
            return "No prompt has a full block yet"
        cached, several = sum(each.cached for each in self.families), len(self.workers)
        if not cached:
            return "No block of these prompts is in any cache"
        copies = sum(sum(each.held) for each in self.families) / cached
        what = f"A cached block is in {copies:.2g} of {several} caches on average"
        if copies == 1:
            what = f"No block is in more than one of the {several} caches"
        elif copies == several:
            what = f"What is cached is in all {several} caches"
        share = cached / sum(each.blocks for each in self.families)
        return f"{what}; {'all blocks' if share == 1 else f'{share:.0%} of the blocks'} are cached"


def _grouped(prompts: Prompts, block_size: int, family: Callable[[str], str] | None) -> list[tuple[str, Counter[str]]]:
    """Count the prompts of each family, as given, or by a function, or by their first block; the most used first."""
    grouped: dict[object, tuple[str, Counter[str]]] = {}
    if isinstance(prompts, Mapping):
        grouped = {name: (str(name), Counter(own)) for name, own in prompts.items()}
    else:
        for prompt, requests in Counter(prompts).items():
            [(key, words), *_] = prompt_blocks(prompt, block_size) or [(0, ("(no full block)",))]
            name = " ".join(words) if family is None else family(prompt)
            grouped.setdefault(key if family is None else name, (name, Counter()))[1][prompt] = requests
    return sorted(grouped.values(), key=lambda each: -each[1].total())


def _family(
    name: str, prompts: Mapping[str, int], indexer: KvIndexer, block_size: int, workers: Sequence[int]
) -> Family:
    blocks: set[int] = set()
    held: dict[int, set[int]] = {worker: set() for worker in workers}
    for prompt in prompts:
        sequence = [block for block, _ in prompt_blocks(prompt, block_size)]
        blocks.update(sequence)
        for worker, matched in indexer.find_matches(sequence).items():
            if worker in held:
                held[worker].update(sequence[:matched])
    counts = tuple(map(len, held.values()))
    return Family(name, sum(prompts.values()), len(blocks), len(set().union(*held.values())), counts)


def plot_residency(
    prompts: Prompts,
    indexer: KvIndexer,
    block_size: int = BLOCK_SIZE,
    family: Callable[[str], str] | None = None,
    workers: Mapping[int, str] | None = None,
    traces: TraceLog[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw for each prefix family and worker which share of the family's blocks the worker holds.

    Args:
        prompts: the texts as the router got them, one entry a request, or those of each family by its name; traces
            do not have them.
        indexer: who holds what, such as a KV router's `indexer`.
        block_size: tokens of a block, as the router has it.
        family: names the family of a prompt; by default, prompts with the same first block are one.
        workers: all workers, name by id; by default those of the traces, or those that the index knows.
        traces: counts the requests of each worker.
        ax: where to draw; a new figure by default.
    """
    return draw_residency(Residency.of(prompts, indexer, block_size, family, workers, traces), ax)


def draw_residency(residency: Residency, ax: Axes | None = None) -> Axes:
    """Draw what `Residency.of` counted."""
    shown, workers = residency.families[:MAX_FAMILIES], residency.workers
    ax = ax if ax is not None else new_axes(max(7.2, 3.2 + 0.36 * len(workers)), 2.2 + 0.27 * max(3, len(shown)))
    cells = [(x, y, share) for y, each in enumerate(shown) for x, share in enumerate(each.shares)]
    for step, colour in enumerate(SHARES):
        own = [(x, y) for x, y, share in cells if _step(share) == step]
        if own:
            xs, ys = zip(*own, strict=True)
            ax.bar(xs, 0.92, 0.96, [y - 0.46 for y in ys], color=colour, edgecolor=MUTED, linewidth=0.3)
    if len(workers) <= MANY:
        for x, y, share in cells:
            dark = PAPER if _step(share) > 2 else INK if share else MUTED
            ax.text(x, y, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7.5, color=dark)
    right, below = len(workers) - 0.3, len(shown) - 0.2
    wide = max(1.0, len(workers) * 0.22)
    most = max((each.requests for each in shown), default=1) or 1
    for y, each in enumerate(shown):
        ax.barh(y, wide * each.requests / most, 0.6, right, color=TIER)
        ax.text(right + wide * each.requests / most, y, f" {each.requests}", va="center", fontsize=7.5, color=INK)
    if residency.per_worker is not None:
        top = max(residency.per_worker, default=1) or 1
        for x, requests in enumerate(residency.per_worker):
            ax.bar(x, 1.2 * requests / top, 0.6, below, color=TIER)
            ax.text(
                x, below + 1.2 * requests / top + 0.08, str(requests), ha="center", va="top", fontsize=7.5, color=INK
            )
    ax.set_xlim(-0.6, right + wide * 1.25)
    ax.set_ylim(below + (2.1 if residency.per_worker is not None else 0.1), -0.6)
    requests = sum(each.requests for each in residency.families)
    note = (
        f"numbers: % of the family's blocks in the worker's cache\nbars: requests · n = {counted(requests, 'prompt')}"
    )
    note += "" if residency.seed is None else f" · seed = {residency.seed}"
    if left := len(residency.families) - len(shown):
        note += f" · {left} less used families are not drawn"
    whole = max(map(len, workers), default=0) * len(workers) <= NAMES
    if not whole:
        note = f"columns: {workers[0].replace(' ', '-').rpartition('-')[0] or 'worker'} number\n{note}"
    caption(ax, "", note, "prefix family, the most used first", "")
    headline(ax, residency.finding, 60)
    names = [each.name if len(each.name) <= LETTERS else f"{each.name[: LETTERS - 1]}…" for each in shown]
    ax.set_yticks(range(len(shown)), names)
    ax.set_xticks(range(len(workers)), workers if whole else short_names(workers))
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax


def _step(share: float) -> int:
    """Return which of the five steps a share is: 0 for nothing, then a quarter each."""
    return ceil(share * 4)
