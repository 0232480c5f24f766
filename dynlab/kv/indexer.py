"""Who holds how much of a prompt (Dynamo: `KvIndexer` and `RadixTree`, lib/kv-router/src/indexer).

A tree of prefixes. Blocks that follow one another without a fork are one run, and a run knows for each worker how
far its blocks reach. Caches give up leaves first, so who holds a block holds all before it, and one number says it
all. A look-up takes a step for each fork on its way, not for each block; and at a fork it looks only at those
workers that turn off there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from dynlab.errors import KvEventError
from dynlab.kv.blocks import in_common
from dynlab.kv.events import Cleared, KvEvent, Removed, Stored

__all__ = ("KvIndexer",)


class _Run:
    """Blocks in a row, `start` blocks from the beginning of their prompts; up to the next fork, or the end."""

    __slots__ = ("blocks", "children", "parent", "reach", "start", "who")

    def __init__(self, parent: _Run | None, start: int, blocks: list[int]) -> None:
        self.parent = parent  # None: the root, which has no blocks, or a run that became part of another
        self.start = start
        self.blocks = blocks
        self.children: dict[int, _Run] = {}  # by their first blocks
        self.reach: dict[int, int] = {}  # by worker: above `start`, up to `end`
        self.who = 0  # the bits of these workers

    @property
    def end(self) -> int:
        return self.start + len(self.blocks)


class KvIndexer:
    """The blocks of all workers. Worker ids are any integers; a worker is known from its first block on."""

    def __init__(self) -> None:
        self._root = _Run(None, 0, [])
        self._runs: dict[int, _Run] = {}  # by each block in them
        self._blocks: dict[int, int] = {}  # how many of those each worker holds
        self._bits: dict[int, int] = {}  # one for each worker
        self._workers: list[int] = []  # by the place of their bits
        self._spare: list[int] = []  # bits of workers that are gone
        self._islands: dict[int, dict[int, int]] = {}
        """Per worker, blocks that it holds though not the one before them, and that one: no prompt gets there."""

    def __len__(self) -> int:
        """Different blocks that a look-up can find."""
        return len(self._runs)

    @property
    def workers(self) -> dict[int, int]:
        """How many blocks each worker holds."""
        return {worker: n + len(self._islands.get(worker, ())) for worker, n in sorted(self._blocks.items())}

    def find_matches(self, sequence: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks of a sequence each worker holds; who holds none is left out.

        Args:
            sequence: sequence hashes, from `sequence_hashes`.
        """
        way: list[_Run] = []
        run, depth, total = self._root, 0, len(sequence)
        while depth < total and (child := run.children.get(sequence[depth])) is not None:
            run = child
            way.append(run)
            end = depth + len(run.blocks)
            if end > total or run.blocks[-1] != sequence[end - 1]:  # the prompt ends, or goes on elsewhere
                depth += in_common(run.blocks, 0, sequence, depth)
                break
            depth = end
        scores = run.reach.copy()
        if depth < run.end:
            scores = {worker: min(reach, depth) for worker, reach in scores.items()}
        for passed, further in zip(way[-2::-1], way[::-1], strict=False):
            # Who is in a run is in all before it, so the scores of all others are known by now.
            off = passed.who ^ further.who
            if 8 * off.bit_count() > len(passed.reach):
                scores = passed.reach | scores
                continue
            while off:
                place = off.bit_length() - 1
                worker = self._workers[place]
                scores[worker] = passed.reach[worker]
                off ^= 1 << place
        return scores

    def apply_event(self, worker_id: int, event: KvEvent) -> None:
        """Follow what a worker tells of its cache.

        Raises:
            KvEventError: if it names a block that this worker does not hold as far as one knows.
        """
        match event:
            case Stored(parent, hashes, _):
                self.store(worker_id, hashes, parent)
            case Removed(hashes):
                self.remove(worker_id, hashes)
            case Cleared():
                self._clear(worker_id)

    def store(self, worker_id: int, hashes: Sequence[int], parent: int | None = None) -> None:
        """Note that a worker holds these blocks, one behind the other, behind `parent`."""
        island = self._islands.get(worker_id, {})
        if parent in island:
            island.update(zip(hashes, (parent, *hashes), strict=False))
            return
        run, depth = self._root, 0
        if parent is not None:
            run, depth = self._place(worker_id, parent)
            if not depth:
                raise _unknown("parent block", parent, worker_id)
        self._register(worker_id)
        self._put(worker_id, run, depth, hashes)
        if island:
            self._join_islands(worker_id, island, hashes)

    def remove(self, worker_id: int, hashes: Sequence[int]) -> None:
        """Note that a worker holds these blocks no more."""
        at = 0
        while at < len(hashes):
            gone = 1
            if self._islands.get(worker_id, {}).pop(hashes[at], None) is None:
                run, depth = self._place(worker_id, hashes[at])
                if not depth:
                    raise _unknown("block", hashes[at], worker_id)
                self._strand(worker_id, run, depth)
                last, left = depth - run.start - 1, len(hashes) - at
                # Blocks mostly go one after the other, the last one first.
                while gone <= last and gone < left and run.blocks[last - gone] == hashes[at + gone]:
                    gone += 1
                self._retreat(worker_id, run, depth - gone)
            at += gone

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker that is gone."""
        if worker_id in self._bits:
            self._clear(worker_id)
            del self._blocks[worker_id]
            self._spare.append(self._bits.pop(worker_id))

    def _register(self, worker_id: int) -> None:
        if worker_id not in self._bits:
            if not self._spare:  # else one is taken again, so that the numbers stay short
                self._spare.append(1 << len(self._workers))
                self._workers.append(worker_id)
            bit = self._spare.pop()
            self._workers[bit.bit_length() - 1] = worker_id
            self._bits[worker_id], self._blocks[worker_id] = bit, 0

    def _clear(self, worker_id: int) -> None:
        self._islands.pop(worker_id, None)
        self._withdraw(worker_id, self._root)

    def _place(self, worker_id: int, block: int) -> tuple[_Run, int]:
        """Return the run of a block, and how deep it is there; depth 0 if the worker does not hold it."""
        run = self._runs.get(block, self._root)
        reach = run.reach.get(worker_id, 0)
        if reach and run.blocks[reach - run.start - 1] == block:  # mostly it is the last that the worker holds
            return run, reach
        depth = run.start + run.blocks.index(block) + 1 if reach else 0
        return (run, depth) if depth <= reach else (run, 0)

    # ------------------------------------------------------------------------ more

    def _put(self, worker_id: int, run: _Run, depth: int, hashes: Sequence[int]) -> None:
        """Let a worker, whose blocks reach to this place, reach on."""
        at = 0
        while at < len(hashes):
            if depth == run.end:
                run = run.children.get(hashes[at]) or self._extend(run, hashes[at:])
            same = in_common(run.blocks, depth - run.start, hashes, at)
            if same:
                at, depth = at + same, depth + same
                reach = run.reach.get(worker_id, run.start)
                run.reach[worker_id] = max(reach, depth)
                run.who |= self._bits[worker_id]
                self._blocks[worker_id] += run.reach[worker_id] - reach
            else:
                self._check(hashes[at:])
                run = self._fork(run, depth)

    def _check(self, blocks: Sequence[int]) -> None:
        if len(set(blocks)) < len(blocks) or not self._runs.keys().isdisjoint(blocks):
            raise KvEventError(
                f"Failed to store {len(blocks)} blocks behind one another: some of them are known behind others. "
                "A sequence hash must tell all that comes before a block; see `sequence_hashes`."
            )

    def _extend(self, run: _Run, blocks: Sequence[int]) -> _Run:
        self._check(blocks)
        if run.children or run is self._root:
            run.children[blocks[0]] = run = _Run(run, run.end, list(blocks))
        else:
            run.blocks.extend(blocks)
        self._runs.update(dict.fromkeys(blocks, run))
        return run

    def _fork(self, run: _Run, depth: int) -> _Run:
        """Cut a run in two, and return the first."""
        assert run.parent is not None
        here = depth - run.start
        first = _Run(run.parent, run.start, run.blocks[:here])
        first.reach = {worker: min(reach, depth) for worker, reach in run.reach.items()}
        first.who = run.who
        first.children = {run.blocks[here]: run}
        run.parent.children[run.blocks[0]] = first
        run.parent, run.start, run.blocks = first, depth, run.blocks[here:]
        run.reach = {worker: reach for worker, reach in run.reach.items() if reach > depth}
        run.who = reduce(or_, map(self._bits.__getitem__, run.reach))
        self._runs.update(dict.fromkeys(first.blocks, first))
        return first

    # ------------------------------------------------------------------------ less

    def _retreat(self, worker_id: int, run: _Run, depth: int) -> None:
        """Let a worker's blocks reach only to `depth` of a run, and forget what nobody holds any more."""
        self._blocks[worker_id] -= run.reach[worker_id] - depth
        run.reach[worker_id] = depth
        if depth == run.start:
            del run.reach[worker_id]
            run.who ^= self._bits[worker_id]
        while run.parent is not None and not run.children:
            end = max(run.reach.values(), default=run.start)
            for block in run.blocks[end - run.start :]:
                del self._runs[block]
            if end > run.start:
                del run.blocks[end - run.start :]
                return
            del run.parent.children[run.blocks[0]]
            run = run.parent
        if len(run.children) == 1 and run.parent is not None:
            self._unite(run, *run.children.values())

    def _unite(self, run: _Run, child: _Run) -> None:
        """Undo a fork that is none any more."""
        run.blocks += child.blocks
        run.reach |= child.reach
        run.children, child.parent = child.children, None
        for grandchild in run.children.values():
            grandchild.parent = run
        self._runs.update(dict.fromkeys(child.blocks, run))

    def _withdraw(self, worker_id: int, run: _Run) -> dict[int, int]:
        """Take a worker out of all runs behind this one; return the blocks it held there, and those before them."""
        behind = [run]
        for seen in behind:  # grows as we go: parents come before their children
            if seen is run or seen.reach[worker_id] == seen.end:
                behind += [child for child in seen.children.values() if worker_id in child.reach]
        held: dict[int, int] = {}
        for seen in behind[1:]:
            before = seen.parent.blocks[-1:] if seen.parent is not None else []
            blocks = before + seen.blocks[: seen.reach[worker_id] - seen.start]
            held.update(zip(blocks[1:], blocks, strict=False))
        for seen in reversed(behind[1:]):
            if seen.parent is not None:  # else it is part of its parent by now, whose turn comes
                self._retreat(worker_id, seen, seen.start)
        return held

    # ------------------------------------------------------------------------ holes: caches do not make any, bugs may

    def _strand(self, worker_id: int, run: _Run, depth: int) -> None:
        """Make an island of what a worker holds behind a block that it gives up."""
        reach, here = run.reach[worker_id], depth - run.start
        blocks = run.blocks[here - 1 : reach - run.start]
        held = dict(zip(blocks[1:], blocks, strict=False))
        if reach == run.end:
            held |= self._withdraw(worker_id, run)
        if held:
            self._islands.setdefault(worker_id, {}).update(held)

    def _join_islands(self, worker_id: int, island: dict[int, int], hashes: Sequence[int]) -> None:
        """Find what can be reached again behind blocks that came back."""
        for block in hashes:
            island.pop(block, None)
        found = list(hashes)
        while found:
            back = set(found)
            found = [block for block, before in island.items() if before in back]
            for block in found:
                self._put(worker_id, *self._place(worker_id, island.pop(block)), [block])


def _unknown(what: str, block: int, worker_id: int) -> KvEventError:
    return KvEventError(
        f"Failed to find {what} {block} at worker {worker_id}: an event before this one was lost or came twice. "
        "Let the worker send all that it holds once more."
    )
