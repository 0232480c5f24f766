"""Which prompts share which blocks, who holds them, and where a prompt's reuse stops (W9)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.kv.blocks import BLOCK_SIZE, block_hashes, sequence_hashes, tokenize
from dynlab.kv.indexer import KvIndexer
from dynlab.views.html import counted
from dynlab.views.plots import caption, new_axes
from dynlab.views.style import INK, MUTED, PAPER, TIER, WASTED, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Block", "PrefixTree", "draw_prefix_tree", "plot_prefix_tree", "prompt_blocks", "worker_names")

MAX_BLOCKS = 60
"""Blocks that a tree shows; of more prompts, those of the families with the most requests are drawn."""
DEEP = 8
"""So many blocks one behind the other are drawn each by itself; in deeper trees, runs of equal ones are one box."""
WIDTH, HEIGHT, LETTERS, DOTS = 0.84, 0.7, 11, 8  # of a box, in units of its place; what fits into it
_WORDS = re.compile(r"\w+|[^\w\s]")  # as `tokenize` cuts


Blocks: TypeAlias = list[tuple[int, tuple[str, ...]]]
"""The full blocks of a prompt: sequence hash and words of each."""


def prompt_blocks(prompt: str, block_size: int) -> Blocks:
    """Cut a prompt into its full blocks."""
    words = _WORDS.findall(prompt)
    hashes = sequence_hashes(block_hashes(tokenize(prompt), block_size))
    return [(each, tuple(words[n * block_size : (n + 1) * block_size])) for n, each in enumerate(hashes)]


def worker_names(indexer: KvIndexer, workers: Mapping[int, str] | None) -> dict[int, str]:
    """Return the workers by id: those that are named, or else those that the index knows."""
    return dict(sorted(workers.items())) if workers else {each: f"worker {each}" for each in indexer.workers}


@dataclass
class Block:
    """A node: a block that comes after the same blocks in each prompt. `run` counts equal ones drawn as one.

    `word` is its first word, or the first in which it differs from its eldest sibling.
    """

    words: tuple[str, ...]
    word: str
    depth: int
    holders: frozenset[int] = frozenset()
    queried: bool = False
    requests: int = 0
    run: int = 1
    children: dict[int, Block] = field(default_factory=dict)
    row: float = 0.0

    def child(self, block: int, words: tuple[str, ...]) -> Block:
        """Return the block that comes next, a new one if it has not been there before."""
        if block not in self.children:
            eldest = next(iter(self.children.values())).words if self.children else ()
            pairs = enumerate(zip(words, eldest, strict=False))
            odd = next((f"…{mine}" if n else mine for n, (mine, other) in pairs if mine != other), words[0])
            self.children[block] = Block(words, odd, self.depth + 1)
        return self.children[block]

    def walk(self) -> Iterator[Block]:
        for child in self.children.values():
            yield child
            yield from child.walk()


@dataclass(frozen=True)
class PrefixTree:
    """The tree that is drawn, and what is said about it. `query` is how many blocks the query has, `missed` its first
    that nobody holds."""

    root: Block
    workers: Mapping[int, str]
    block_size: int
    requests: int
    left_out: int
    query: int | None
    matches: Mapping[int, int]
    missed: Block | None

    @classmethod
    def of(
        cls,
        prompts: Sequence[str],
        indexer: KvIndexer,
        block_size: int = BLOCK_SIZE,
        query: str | None = None,
        workers: Mapping[int, str] | None = None,
    ) -> PrefixTree:
        """Cut prompts into blocks and ask the index who holds them."""
        asks = Counter(prompts)
        cut = {prompt: prompt_blocks(prompt, block_size) for prompt in asks}
        popular: Counter[int] = Counter()
        for prompt, requests in asks.items():
            popular[cut[prompt][0][0] if cut[prompt] else 0] += requests
        asked = prompt_blocks(query, block_size) if query is not None else []
        ranked = sorted((p for p in cut if cut[p]), key=lambda p: -popular[cut[p][0][0]])[:MAX_BLOCKS]
        while True:
            root = _grow([(cut[prompt], asks[prompt]) for prompt in ranked], asked, indexer)
            if len(ranked) <= 1 or sum(1 for _ in root.walk()) <= MAX_BLOCKS:
                break
            ranked.pop()
        left_out = sum(1 for prompt in cut if cut[prompt]) - len(ranked)
        path = [block for block in root.walk() if block.queried]
        missed = next((block for block in path if not block.holders), None)
        matches = indexer.find_matches([block for block, _ in asked])
        named = worker_names(indexer, workers)
        length = len(asked) if query is not None else None
        return cls(root, named, block_size, len(prompts), left_out, length, matches, missed)

    @property
    def finding(self) -> str:
        """The one sentence that the tree is drawn for."""
        blocks = list(self.root.walk())
        cached = sum(block.run for block in blocks if block.holders)
        if self.query is None:
            several = sum(block.run for block in blocks if len(block.holders) > 1)
            drawn = "that are drawn " if self.left_out else ""
            text = f"{cached} of {sum(block.run for block in blocks)} different blocks {drawn}are cached"
            text += f", {several} of them by more than one worker" if cached else ""
            return text if blocks else "No prompt has a full block yet"
        length, best = self.query, max(self.matches.values(), default=0)
        if not length:
            return f"The query has no full block of {self.block_size} tokens: nothing of it can be reused"
        word = repr(self.missed.word.lstrip("…")) if self.missed else ""
        if not best:
            return f"Nobody holds the query's first block, {word}: nothing can be reused"
        who = [self.workers.get(each, f"worker {each}") for each, n in self.matches.items() if n == best]
        holder = who[0] if len(who) == 1 else f"{len(who)} workers"
        if best == length:
            return f"{holder} can reuse all {length} blocks of the query".replace("worker ", "Worker ")
        rest = length - best - 1
        blocks_after = f"the {rest} blocks after it are" if rest > 1 else "the block after it is"
        lost = f"; {blocks_after} lost too" if rest else ""
        return f"Reuse stops in the query's block {best + 1} of {length}, at {word}{lost}"


def _grow(prompts: Sequence[tuple[Blocks, int]], query: Blocks, indexer: KvIndexer) -> Block:
    root = Block((), "", 0)
    for blocks, requests in [*prompts, (query, 0)]:
        held = indexer.find_matches([block for block, _ in blocks])
        at = root
        for block, words in blocks:
            at = at.child(block, words)
            at.holders |= {worker for worker, matched in held.items() if matched >= at.depth}
            at.requests += requests
            at.queried |= blocks is query
    if max((block.depth for block in root.walk()), default=0) > DEEP:
        _shorten(root, 0)
    _place(root, count())
    return root


def _shorten(block: Block, depth: int) -> None:
    """Make one box of blocks that follow each other and are alike in all that is drawn."""
    while block.depth and len(block.children) == 1:
        [only] = block.children.values()
        if (only.holders, only.queried, only.requests) != (block.holders, block.queried, block.requests):
            break
        block.run, block.children = block.run + only.run, only.children
    block.depth = depth
    for child in block.children.values():
        _shorten(child, depth + 1)


def _place(block: Block, rows: Iterator[int]) -> None:
    """Give each leaf a row of its own, and each other block the row of its first child."""
    for child in block.children.values():
        _place(child, rows)
    block.row = next(iter(block.children.values())).row if block.children else next(rows)


def plot_prefix_tree(
    prompts: Sequence[str],
    indexer: KvIndexer,
    block_size: int = BLOCK_SIZE,
    query: str | None = None,
    workers: Mapping[int, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the blocks of prompts as a tree: a box a block, a dot a worker, filled where it holds the block.

    Args:
        prompts: the texts as the router got them, one entry a request; the tail that fills no block is left out.
        indexer: who holds what, such as a KV router's `indexer`.
        block_size: tokens of a block, as the router has it.
        query: a prompt whose way through the tree is outlined, up to its first miss.
        workers: all workers, name by id; by default those that the index knows.
        ax: where to draw; a new figure by default.
    """
    return draw_prefix_tree(PrefixTree.of(prompts, indexer, block_size, query, workers), ax)


def draw_prefix_tree(tree: PrefixTree, ax: Axes | None = None) -> Axes:
    """Draw what `PrefixTree.of` grew."""
    blocks = list(tree.root.walk())
    deepest = max((block.depth for block in blocks), default=1)
    rows = max((block.row for block in blocks), default=0.0) + 1
    ax = ax if ax is not None else new_axes(max(6.4, 0.9 + 0.92 * deepest), 1.6 + 0.48 * rows)
    _edges(ax, tree.root)
    for block in blocks:
        _draw(ax, block, list(tree.workers), missed=block is tree.missed)
    ax.text(0.38, tree.root.row, "start", ha="right", va="center", fontsize=8, color=MUTED)
    ax.set_xlim(-0.1, max(deepest, 5) + 0.5)
    ax.set_ylim(rows - 0.4, -0.6)
    runs = any(block.run > 1 for block in blocks)
    note = f"n = {counted(tree.requests, 'prompt')}" + (
        f", {tree.left_out} different ones not drawn" if tree.left_out else ""
    )
    note = ("x2: two blocks in a row, alike · " if runs else "") + note
    what = f"block of {tree.block_size} tokens, by its first word (…: by the first that differs)"
    caption(ax, "", what, "", f"{note}\n{_key(tree)}")
    headline(ax, tree.finding, 70)
    ax.set(xticks=() if runs else range(1, deepest + 1), yticks=())
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax


def _key(tree: PrefixTree) -> str:
    names = list(tree.workers.values())
    span = "and" if len(names) == 2 else "to"
    several = f"{names[0]} {span} {names[-1]}, left to right" if len(names) > 1 else "".join(names)
    below = ", then the next row" if len(names) > DOTS else ""
    way = "\nthick: the query's way, x: its first miss, dashed: nobody holds it" if tree.query else ""
    return f"dots: {several}{below}; filled: holds the block{way}"


def _edges(ax: Axes, block: Block) -> None:
    for child in block.children.values():
        begin, bend, end = block.depth + WIDTH / 2, child.depth - 0.5, child.depth - WIDTH / 2
        look: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "zorder": 1}
        look |= {"color": INK, "linewidth": 2.2, "zorder": 2} if child.queried else {}
        ax.plot([begin, bend, bend, end], [block.row, block.row, child.row, child.row], **look)
        _edges(ax, child)


def _draw(ax: Axes, block: Block, workers: Sequence[int], *, missed: bool) -> None:
    x, y = block.depth, block.row
    edge: dict[str, Any] = (
        {"edgecolor": INK, "linewidth": 2.2} if block.queried else {"edgecolor": MUTED, "linewidth": 0.9}
    )
    edge["linestyle"] = "-" if block.holders else (0, (3, 2))
    ax.barh(y, WIDTH, HEIGHT, x - WIDTH / 2, facecolor=PAPER, zorder=3, **edge)
    run = f" x{block.run}" if block.run > 1 else ""
    room = LETTERS - len(run)
    word = block.word if len(block.word) <= room else f"{block.word[: room - 1]}…"
    lines, wide = -(-len(workers) // DOTS), min(len(workers), DOTS) - 1
    ax.text(x, y - 0.13 - 0.04 * (lines > 1), word + run, ha="center", va="center", fontsize=7.5, color=INK, zorder=4)
    for held in (True, False):
        spots = [
            (x + (n % DOTS - wide / 2) * 0.095, y + 0.15 * (1 + n // DOTS) - 0.03 * lines)
            for n, worker in enumerate(workers)
            if (worker in block.holders) is held
        ]
        if spots:
            look: dict[str, Any] = {"color": TIER, "markerfacecolor": TIER if held else PAPER, "zorder": 4}
            ax.plot(*zip(*spots, strict=True), "o", markersize=3.6, markeredgewidth=0.6, **look)
    if missed:
        ax.plot([x - WIDTH / 2], [y], "x", color=WASTED, markersize=10, markeredgewidth=2.6, zorder=5)
