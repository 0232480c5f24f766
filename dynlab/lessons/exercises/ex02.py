"""Exercises of notebook 02: time to first token and inter-token latency, from the events of one stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.lessons.exercises.values import compare, is_number, same

__all__ = ("EXERCISES", "STREAMS")

Events: TypeAlias = list[tuple[float, str]]

STREAMS: dict[str, Events] = {
    "of five tokens": [
        (12.0, "sent"),
        (13.5, "received"),
        (61.0, "item"),
        (101.5, "item"),
        (141.0, "item"),
        (221.0, "item"),
        (261.5, "item"),
        (262.0, "ended"),
        (264.0, "answered"),
    ],
    "of one token": [(3.0, "sent"), (4.5, "received"), (50.0, "item"), (50.5, "ended"), (52.0, "answered")],
    "without a token": [(7.0, "sent"), (8.0, "received"), (9.0, "ended"), (11.0, "answered")],
}
"""Recorded streams as (time_ms, kind); none begins at 0."""

FIVE, ONE, NONE = STREAMS
_SENT, _RECEIVED, *_ITEMS, _ENDED, _ANSWERED = [time_ms for time_ms, _ in STREAMS[FIVE]]


def judge_ttft(answer: Any) -> str:
    """Time from the send to the first item; None without items."""
    ttft = need_function(answer, "ttft", "events")
    foreseen = {
        "time of the day": [[_ITEMS[0]]],
        "the whole answer": [[end - _SENT] for end in (_ITEMS[-1], _ENDED, _ANSWERED)],
        "any event": [[_RECEIVED - _SENT]],
        "from the Frontend on": [[_ITEMS[0] - _RECEIVED]],
    }
    _judge_five(ttft, "ttft", _one, [_ITEMS[0] - _SENT], foreseen)
    got = _ask(ttft, "ttft", ONE)
    if not same([got], [47.0]):
        wrong("needs two tokens", got=shown(got))
    got = _ask(ttft, "ttft", NONE, "falls over without a token")
    if got is not None:
        wrong("a number for no token", got=shown(got))
    return "49 ms, 47 ms, and None where no token came."


def judge_itl(answer: Any) -> str:
    """Gaps between neighbouring items; an empty list for fewer than two."""
    itl = need_function(answer, "itl", "events")
    foreseen = {
        "TTFT among the gaps": [_gaps([_SENT, *_ITEMS])],
        "the end among the gaps": [_gaps([*_ITEMS, end]) for end in (_ENDED, _ANSWERED)],
        "all from one point": [[t - _ITEMS[0] for t in _ITEMS[1:]], [t - _SENT for t in _ITEMS]],
        "every event": [_gaps([time_ms for time_ms, _ in STREAMS[FIVE]])],
    }
    _judge_five(itl, "itl", _list, _gaps(_ITEMS), foreseen)
    for stream in (ONE, NONE):
        got = _ask(itl, "itl", stream, "falls over on a short stream")
        if got is None or is_number(got) or _list(got):
            wrong("a gap out of nothing", stream=stream, got=shown(got))
    return "Gaps of 40.5, 39.5, 80 and 40.5 ms; no gap with one token or with none."


def _gaps(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(times)]


def _judge_five(
    function: Any,
    name: str,
    read: Callable[[Any], list[float]],
    right: list[float],
    foreseen: Mapping[str, list[list[float]]],
) -> None:
    """Hold what a function makes of five tokens against the right numbers; `read` refuses what are none."""
    got = _ask(function, name, FIVE)
    if got is None:
        raise Finding("mistake", f"`{name}(events)` returns None for a stream {FIVE}. Is a `return` missing?")
    compare(read(got), right, foreseen, f"Sent at {_SENT:g}, items at {', '.join(f'{t:g}' for t in _ITEMS)};")


def _ask(function: Any, name: str, stream: str, falls_over: str = "") -> Any:
    """Call the reader's function with a copy of a stream, so that nothing it does to it stays.

    Where `falls_over` names a mistake, whatever the function raises is that mistake.
    """
    try:
        return call(function, list(STREAMS[stream]), given=f"the stream {stream}")
    except Stumbled as stumbled:
        if not falls_over:
            raise
        wrong(falls_over, stream=stream, error=type(stumbled.error).__name__)


def _one(got: Any) -> list[float]:
    """Read what `ttft` returns."""
    if not is_number(got):
        raise Finding("wrong type", f"`ttft(events)` returns {shown(got)}. One number is asked for, in milliseconds.")
    return [got]


def _list(got: Any) -> list[float]:
    """Read what `itl` returns; only plain numbers in a list or tuple."""
    if is_number(got):
        wrong("one number", got=got)
    if not isinstance(got, list | tuple):
        raise Finding("wrong type", f"`itl(events)` returns {shown(got)}. A list of gaps is asked for.")
    if not all(map(is_number, got)):
        raise Finding("wrong type", f"`itl(events)` returns {shown(got)}. Each gap is one number, in milliseconds.")
    return list(got)


_TTFT = """\
def ttft(events):
    sent = [time_ms for time_ms, kind in events if kind == "sent"]
    items = [time_ms for time_ms, kind in events if kind == "item"]
    return items[0] - sent[0] if items else None
"""
_ITL = """\
def itl(events):
    items = [time_ms for time_ms, kind in events if kind == "item"]
    return [later - sooner for sooner, later in zip(items, items[1:])]
"""

EXERCISES = (
    Exercise(
        number="02.1",
        task="Write `ttft(events)`: the time from the send to the first item in milliseconds, or None without an item.",
        answer="ttft",
        judge=judge_ttft,
        hints=(
            "Two of the events matter: one says when the request left you, one says when the first token came.",
            'Collect the times of all events of kind "item". What if that list is empty?',
            "The first item's time minus the time of the event `sent`. Return None when there is no item.",
        ),
        solution=_TTFT,
        mistakes={
            "time of the day": Mistake(
                "{got} is when the first item came, on the clock of the recording. "
                "The request was sent at 12, not at 0.",
                _TTFT.replace(" - sent[0]", ""),
            ),
            "the whole answer": Mistake(
                "{got} ms is the time to the end of the answer. The first token came long before.",
                _TTFT.replace("items[0] -", "items[-1] -"),
            ),
            "any event": Mistake(
                "{got} ms is when the Frontend received the request. Only events of kind `item` are tokens.",
                "def ttft(events):\n    return events[1][0] - events[0][0] if len(events) > 4 else None\n",
            ),
            "from the Frontend on": Mistake(
                "{got} ms begins when the Frontend received the request. You wait from the moment you send.",
                _TTFT.replace('"sent"', '"received"'),
            ),
            "needs two tokens": Mistake(
                "A stream of one token has a first token too, after 47 ms; you return {got}.",
                _TTFT.replace("if items", "if len(items) > 1"),
            ),
            "falls over without a token": Mistake(
                "A stream without a token raises {error}. Return None there: nothing came.",
                _TTFT.replace(" if items else None", ""),
            ),
            "a number for no token": Mistake(
                "Without a token you return {got}, which reads like a very fast answer. Return None.",
                _TTFT.replace("else None", "else 0"),
            ),
        },
    ),
    Exercise(
        number="02.2",
        task="Write `itl(events)`: the list of gaps between neighbouring items in milliseconds.",
        answer="itl",
        judge=judge_itl,
        hints=(
            "Five items have four gaps between them.",
            "Collect the times of the items, then pair each with the one after it.",
            "`zip(items, items[1:])` gives the pairs, and no pair at all when there are fewer than two items.",
        ),
        solution=_ITL,
        mistakes={
            "one number": Mistake(
                "You return one number, {got:g}. A mean hides the one long gap; return the list of all gaps.",
                "def itl(events):\n    items = [t for t, kind in events if kind == 'item']\n"
                "    return (items[-1] - items[0]) / (len(items) - 1) if len(items) > 1 else 0\n",
            ),
            "TTFT among the gaps": Mistake(
                "Your first gap, {first:g} ms, reaches from the send to the first token. That is TTFT, not a gap.",
                _ITL.replace('== "item"', 'in ("sent", "item")'),
            ),
            "the end among the gaps": Mistake(
                "Your last gap, {last:g} ms, reaches from the last token to the end. Nobody waits for a token there.",
                _ITL.replace('== "item"', 'in ("item", "ended")'),
            ),
            "all from one point": Mistake(
                "You measure every item from the same moment: {got}. A gap reaches from one item to the next.",
                _ITL.replace("later - sooner for sooner, later", "later - items[0] for _, later"),
            ),
            "every event": Mistake(
                "You count gaps between all events. Only events of kind `item` are tokens.",
                _ITL.replace(' if kind == "item"', ""),
            ),
            "falls over on a short stream": Mistake(
                "A stream {stream} raises {error}. It has no gap: return an empty list.",
                "def itl(events):\n    items = [t for t, kind in events if kind == 'item']\n    last = items[0]\n"
                "    return [items[n] - items[n - 1] for n in range(1, len(items))]\n",
            ),
            "a gap out of nothing": Mistake(
                "A stream {stream} has no two neighbours, so no gap; you return {got}. Return an empty list.",
                _ITL.replace("zip(items, items[1:])]", "zip(items, items[1:])] or [0.0]"),
            ),
        },
    ),
)
