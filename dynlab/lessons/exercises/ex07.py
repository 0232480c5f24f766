"""Exercises of notebook 07: the scale from which the fullest cache wins, and how much of a prompt a cache holds."""

from __future__ import annotations

import re
from fractions import Fraction
from math import inf
from typing import Any, NamedTuple

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.lessons.exercises.values import is_number
from dynlab.lessons.three_workers import BLOCKS, WORKERS

__all__ = ("CASES", "EXERCISES")

_LEFT = {worker: BLOCKS - cached for worker, (cached, _) in WORKERS.items()}
_BUSY = {worker: running for worker, (_, running) in WORKERS.items()}
_COST = {worker: _LEFT[worker] + _BUSY[worker] for worker in WORKERS}
SCALE = Fraction(_BUSY[3] - _BUSY[2], _LEFT[2] - _LEFT[3])  # 5 s + 5 = 2 s + 9
_NUMBER = re.compile(r"\s*(\d{1,9}(?:\.\d{1,18})?)\s*(?:/\s*(\d{1,9})\s*)?")


def judge_scale(answer: Any) -> str:  # noqa: RET503 - `wrong` never returns
    """The scale at which workers 2 and 3 cost the same: a fraction, a float, or a text."""
    got = _fraction(answer)
    text = shown(answer, str)
    if abs(got - SCALE) <= Fraction(1, 10**9):
        return f"5 * {SCALE} + 5 = 2 * {SCALE} + 9: there they tie, and with any larger scale worker 3 is cheaper."
    if abs(got - SCALE) < Fraction(1, 100):
        raise Finding("close", f"{text} is rounded. Give the fraction: `Fraction(a, b)`, or the text 'a/b'.")
    if got == 1:
        wrong("the default")
    if got == 1 / SCALE:
        wrong("upside down", got=text)
    if got == Fraction(BLOCKS, WORKERS[3][0]):
        wrong("credit instead of scale", got=text)
    if any(abs(got - Fraction(_COST[3] + own, _COST[2] + own)) <= Fraction(1, 10**9) for own in (0, BLOCKS)):
        wrong("ratio of the costs", got=text)
    if got == _BUSY[3] - _BUSY[2]:
        wrong("not divided", got=text)
    if got < 0:
        raise Finding("mistake", "Blocks left to prefill cannot make a worker cheaper: the scale is 0 or more.")
    wrong("still worker 2" if got < SCALE else "not the first", got=text)


def _fraction(answer: Any) -> Fraction:
    """Read a number of any kind."""
    if isinstance(answer, str) and (found := _NUMBER.fullmatch(answer)):
        above, below = found[1], int(found[2] or 1)
        if below:
            return Fraction(above) / below
    elif isinstance(answer, Fraction) or (is_number(answer) and abs(answer) < inf):
        return Fraction(answer)
    raise Finding("wrong type", f"Give one number, such as `Fraction(7, 5)` or '7/5'; this is {shown(answer)}.")


class Case(NamedTuple):
    """A prompt's blocks, a cache, how many leading blocks it holds, and what mistakes make of it."""

    name: str
    blocks: tuple[int, ...]
    cache: tuple[int, ...]
    right: int
    foreseen: dict[int, str]


CASES = (
    # In this order of the cache, only the first three stand at the place where the prompt has them.
    Case(
        "with a gap in the middle",
        (11, 22, 33, 44, 55, 66, 77, 88),
        (11, 22, 33, 55, 44, 77, 88),
        5,
        {
            7: "counts all in common",
            4: "stops too early",
            6: "counts the miss",
            3: "compares places",
            2: "begins again",
            1: "returns at once",
        },
    ),
    Case(
        "shorter than the cache",
        (11, 22, 33),
        (33, 77, 22, 11, 88),
        3,
        {2: "stops too early", 5: "counts the cache", 0: "compares places"},
    ),
    Case("whose first block is missing", (11, 22, 33), (22, 33), 0, {2: "counts all in common", 1: "counts the miss"}),
    Case("before an empty cache", (11, 22, 33), (), 0, {1: "counts the miss"}),
    Case("without a block", (), (11, 22), 0, {2: "counts the cache"}),
)
"""What `overlap` is asked."""


def judge_overlap(answer: Any) -> str:
    """Leading blocks that are in the cache, whatever the cache's order."""
    overlap = need_function(answer, "overlap", "blocks", "cache")
    for case in CASES:
        given = f"{list(case.blocks)}, {list(case.cache)}"
        try:
            got = call(overlap, list(case.blocks), list(case.cache), given=given)
        except Stumbled as stumbled:
            if case.blocks and case.cache:
                raise
            wrong("falls over on nothing", case=case.name, error=type(stumbled.error).__name__)
        if got is None:
            if case.right == len(case.blocks):
                wrong("nothing returned at the end", given=given)
            raise Finding("mistake", f"`overlap({given})` returns None. Is a `return` missing?")
        if isinstance(got, bool) or not hasattr(got, "__index__"):
            raise Finding("wrong type", f"`overlap({given})` returns {shown(got)}. Return how many, a whole number.")
        if got != case.right:
            if got in case.foreseen:
                wrong(case.foreseen[got], given=given, got=got, right=case.right)
            raise Finding("mistake", f"`overlap({given})` returns {got}; {case.right} leading blocks are in the cache.")
    return "5 of 8 before a gap, 3 of 3 in a longer cache, and 0 where the first block, the cache or the prompt is not."


_OVERLAP = """\
def overlap(blocks, cache):
    held = 0
    for block in blocks:
        if block not in cache:
            break
        held += 1
    return held
"""

EXERCISES = (
    Exercise(
        number="07.1",
        task="Give the `prefill_load_scale` from which on worker 3 wins, as an exact fraction.",
        answer="scale",
        judge=judge_scale,
        hints=(
            "Write down what each of workers 2 and 3 costs with a scale s, which multiplies the prefill alone.",
            "Worker 2 costs 5 * s + 5. At the scale that you look for, worker 3 costs the same.",
            "5 * s + 5 = 2 * s + 9. Bring s to one side and the numbers to the other.",
        ),
        solution="from fractions import Fraction\n\nscale = Fraction(4, 3)  # 5 * s + 5 = 2 * s + 9, so 3 * s = 4\n",
        mistakes={
            "the default": Mistake(
                "1 is the default, and with it worker 2 wins, as you saw. Prefill must count for more.", "scale = 1"
            ),
            "upside down": Mistake(
                "{got} is upside down. Worker 3 has less to prefill: it gains when prefill counts for more than 1.",
                "scale = 0.75",
            ),
            "credit instead of scale": Mistake(
                "{got} is the credit with which 8 cached blocks pay for all 10. The scale leaves the credit alone: "
                "it multiplies the 5 and the 2 blocks that are left.",
                "scale = '5/4'",
            ),
            "ratio of the costs": Mistake(
                "{got} is the ratio of the two costs. The scale does not multiply all of a cost, but its prefill.",
                "scale = 11 / 10",
            ),
            "not divided": Mistake(
                "{got} blocks more to decode with is what worker 3 has to make up for. "
                "With each 1 of the scale it gains 3.",
                "scale = 4",
            ),
            "still worker 2": Mistake(
                "With {got} worker 2 is still cheaper. Prefill must count for more; "
                "`score_card_picture(three_workers({got}))` draws it.",
                "scale = 1.2",
            ),
            "not the first": Mistake(
                "With {got} worker 3 wins, but so it does with a somewhat smaller scale. Look for where the two tie.",
                "scale = 1.5",
            ),
        },
    ),
    Exercise(
        number="07.2",
        task="Write `overlap(blocks, cache)`: how many leading `blocks` are in `cache`, which is in no order.",
        answer="overlap",
        judge=judge_overlap,
        hints=(
            "Only blocks before the first one that is missing count. What comes after it is of no use.",
            "Go through `blocks` one by one, and ask of each whether it is `in cache`. When do you stop?",
            "Begin with 0, add 1 for each block that is in the cache, `break` at the first that is not; then return.",
        ),
        solution=_OVERLAP,
        mistakes={
            "counts all in common": Mistake(
                "`overlap({given})` returns {got}: all blocks that both have. After the first miss nothing counts.",
                "def overlap(blocks, cache):\n    return len(set(blocks) & set(cache))\n",
            ),
            "stops too early": Mistake(
                "`overlap({given})` returns {got}, one too few: the last block before the miss, or before the end, "
                "counts too.",
                "def overlap(blocks, cache):\n    held = 0\n    for block in blocks[:-1]:\n"
                "        if block not in cache:\n            break\n        held += 1\n    return held\n",
            ),
            "counts the miss": Mistake(
                "`overlap({given})` returns {got}: you count the first block that is missing as well.",
                "def overlap(blocks, cache):\n    held = 0\n    for block in blocks:\n        held += 1\n"
                "        if block not in cache:\n            break\n    return held\n",
            ),
            "compares places": Mistake(
                "`overlap({given})` returns {got}: you compare place by place. A cache is in no order; use `in`.",
                "def overlap(blocks, cache):\n    held = 0\n    for block, other in zip(blocks, cache):\n"
                "        if block != other:\n            break\n        held += 1\n    return held\n",
            ),
            "begins again": Mistake(
                "`overlap({given})` returns {got}: you count anew after the first miss. "
                "What comes after it is of no use.",
                "def overlap(blocks, cache):\n    held = 0\n    for block in blocks:\n"
                "        held = held + 1 if block in cache else 0\n    return held\n",
            ),
            "returns at once": Mistake(
                "`overlap({given})` returns {got}: a `return` inside the loop ends it at its first block.",
                "def overlap(blocks, cache):\n    held = 0\n    for block in blocks:\n        if block in cache:\n"
                "            held += 1\n        return held\n    return held\n",
            ),
            "counts the cache": Mistake(
                "`overlap({given})` returns {got}: you count blocks of the cache. It may hold other prompts' blocks.",
                "def overlap(blocks, cache):\n    for n, block in enumerate(blocks):\n"
                "        if block not in cache:\n            return n\n    return len(cache)\n",
            ),
            "nothing returned at the end": Mistake(
                "`overlap({given})` returns None. When no block is missing, your loop ends without a `return`.",
                "def overlap(blocks, cache):\n    for n, block in enumerate(blocks):\n"
                "        if block not in cache:\n            return n\n",
            ),
            "falls over on nothing": Mistake(
                "A prompt {case} raises {error}. Nothing is in common there: return 0.",
                "def overlap(blocks, cache):\n    held = 0\n    while blocks[held] in cache:\n        held += 1\n"
                "        if held == len(blocks):\n            break\n    return held\n",
            ),
        },
    ),
)
