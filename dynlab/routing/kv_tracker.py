"""How many KV blocks the requests at one worker use (Dynamo: `BlockTracker`, lib/kv-router/src/sequences)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dynlab.kv.blocks import in_common

__all__ = ("BlockTracker", "Edge")


class Edge:
    """Blocks in a row of the prompts of the same requests, behind those of `parent`."""

    __slots__ = ("blocks", "children", "fraction", "owners", "parent")

    def __init__(self, parent: Edge | None, blocks: Sequence[int], fraction: float = 1.0) -> None:
        self.parent = parent
        self.blocks = blocks
        self.fraction = fraction  # what each block counts
        self.owners = 0  # requests whose prompts end here
        self.children: dict[int, Edge] = {}  # by their first blocks


class BlockTracker:
    """The blocks that the requests at one worker use: those of equal prefixes once, those of answers each.

    A block counts 1, or the fraction that was last given while one request alone used it, also when others share it
    later. Sums are kept as Dynamo keeps them, prompts' and answers' apart and edge by edge: added up in another
    order they would now and then round to another number of blocks.
    """

    def __init__(self) -> None:
        self._root = Edge(None, ())
        self._prompt_total = 0.0
        self._output_total = 0.0
        self._outputs = 0

    @property
    def active_blocks(self) -> int:
        """What all blocks count together; half a block is one."""
        total = self._prompt_total + self._output_total
        return math.floor(total) + (total - math.floor(total) >= 0.5)

    def acquire_prompt(self, sequence: Sequence[int]) -> Edge:
        """Use a prompt's blocks; returns its last edge, which is to be released."""
        edge, at = self._root, 0
        while at < len(sequence):
            child = edge.children.get(sequence[at])
            if child is None:
                child = edge.children[sequence[at]] = Edge(edge, sequence[at:])
                self._prompt_total += len(child.blocks)
            else:
                child = self._split(child, in_common(child.blocks, 0, sequence, at))
            edge, at = child, at + len(child.blocks)
        edge.owners += 1
        return edge

    def append_output(self, outputs: list[float]) -> None:
        """Use one more block for an answer, whose blocks count `outputs`."""
        outputs.append(1.0)
        self._outputs += 1
        self._output_total += 1.0

    def set_fraction(self, edge: Edge, outputs: list[float], fraction: float) -> None:
        """Let blocks that only this request uses count a fraction: its answer's, and its prompt's from the end on."""
        for n, old in enumerate(outputs):
            outputs[n] = fraction
            self._output_total += fraction - old
        while edge.parent is not None and edge.owners + len(edge.children) == 1:
            self._prompt_total += len(edge.blocks) * (fraction - edge.fraction)
            edge.fraction = fraction
            edge = edge.parent

    def release(self, edge: Edge, outputs: list[float]) -> int:
        """Use a request's blocks no more; returns how many at its prompt's end nobody uses now."""
        for old in outputs:
            self._output_total -= old
        self._outputs -= len(outputs)
        edge.owners -= 1
        unused = 0
        while edge.parent is not None and not edge.owners and not edge.children:
            self._prompt_total -= len(edge.blocks) * edge.fraction
            unused += len(edge.blocks)
            del edge.parent.children[edge.blocks[0]]
            edge = edge.parent
        if not self._outputs:
            self._output_total = 0.0
        if not self._root.children:
            self._prompt_total = 0.0
        return unused

    def _split(self, edge: Edge, here: int) -> Edge:
        """Return an edge of the first blocks of another, which begins behind it from now on."""
        if here == len(edge.blocks):
            return edge
        assert edge.parent is not None
        first = Edge(edge.parent, edge.blocks[:here], edge.fraction)
        first.children = {edge.blocks[here]: edge}
        edge.parent.children[edge.blocks[0]] = first
        edge.parent, edge.blocks = first, edge.blocks[here:]
        return first
