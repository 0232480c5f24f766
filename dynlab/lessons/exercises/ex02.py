"""Exercises of notebook 02: time to first token and inter-token latency, from the events of one stream."""

from __future__ import annotations

from itertools import pairwise
from math import isclose
from typing import Any, TypeAlias

from dynlab.lessons.exercise import Exercise, Finding, Mistake, State, Stumbled, call, need_function, shown, wrong

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


def _times(events: Events, kind: str = "item") -> list[float]:
    return [time_ms for time_ms, found in events if found == kind]


def _near(value: Any, expected: float) -> bool:
    return _number(value) and isclose(value, expected, rel_tol=1e-6, abs_tol=1e-6)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ask(function: Any, name: str, stream: str) -> Any:
    """Call the reader's function with a copy of a stream, so that nothing it does to it stays."""
    return call(function, list(STREAMS[stream]), given=f"the stream {stream}")


def judge_ttft(answer: Any) -> str:
    """Time from the send to the first item; None without items."""
    ttft = need_function(answer, "ttft", "events")
    events = STREAMS[FIVE]
    sent, items = events[0][0], _times(events)
    got = _ask(ttft, "ttft", FIVE)
    if got is None:
        raise Finding("mistake", "`ttft(events)` returns None for a stream of five tokens. Is a `return` missing?")
    if not _number(got):
        raise Finding("wrong type", f"`ttft(events)` returns {shown(got)}. One number is asked for, in milliseconds.")
    right = items[0] - sent
    if _near(got, items[0]):
        wrong("time of the day", got=got, sent=sent)
    if any(_near(got, later - sent) for later in (items[-1], *_times(events, "ended"), *_times(events, "answered"))):
        wrong("the whole answer", got=got)
    if _near(got, events[1][0] - sent):
        wrong("any event", got=got)
    if _near(got, items[0] - events[1][0]):
        wrong("from the Frontend on", got=got)
    if any(_near(got, right * factor) for factor in (1e-3, 1e3, 1e6, 1e-6)):
        raise Finding("close", f"The right time in another unit: {got:g}. The events are in milliseconds; so is TTFT.")
    if _near(got, -right):
        raise Finding("close", f"{got:g} ms is before the send. Subtract the other way round.")
    if not _near(got, right):
        about: State = "close" if abs(got - right) <= 1 else "mistake"
        raise Finding(about, f"The stream of five tokens gives {got:g} ms. Sent at 12.0, first item at 61.0.")
    got = _ask(ttft, "ttft", ONE)
    if not _near(got, 47.0):
        wrong("needs two tokens", got=shown(got))
    try:
        got = _ask(ttft, "ttft", NONE)
    except Stumbled as stumbled:
        wrong("falls over without a token", error=type(stumbled.error).__name__)
    if got is not None:
        wrong("a number for no token", got=shown(got))
    return "49 ms, 47 ms, and None where no token came."


def judge_itl(answer: Any) -> str:
    """Gaps between neighbouring items; an empty list for fewer than two."""
    itl = need_function(answer, "itl", "events")
    events = STREAMS[FIVE]
    items = _times(events)
    right = [later - sooner for sooner, later in pairwise(items)]
    got = _ask(itl, "itl", FIVE)
    if got is None:
        raise Finding("mistake", "`itl(events)` returns None for a stream of five tokens. Is a `return` missing?")
    if _number(got):
        wrong("one number", got=got)
    got = _list(got)
    if _same(got, right):
        _judge_short(itl)
        return "Gaps of 40.5, 39.5, 80 and 40.5 ms; no gap with one token or with none."
    if _same(got, [items[0] - events[0][0], *right]):
        wrong("TTFT among the gaps", first=got[0])
    if len(got) > len(right) and _same(got[: len(right)], right):
        wrong("the end among the gaps", last=got[-1])
    if _same(got, [later - items[0] for later in items[1:]]) or _same(got, [t - events[0][0] for t in items]):
        wrong("all from one point", got=shown(got))
    if _same(got, [later - sooner for (sooner, _), (later, _) in pairwise(events)]):
        wrong("every event")
    if any(_same(got, [gap * factor for gap in right]) for factor in (1e-3, 1e3, -1)) or _same(got, right[::-1]):
        raise Finding("close", f"Right but for unit, sign or order: {shown(got)}. Gaps in ms, first gap first.")
    if len(got) == len(right) and all(abs(a - b) <= 1 for a, b in zip(got, right, strict=True)):
        raise Finding("close", f"Each gap is right to a millisecond: {shown(got)}. Leave the rounding out.")
    raise Finding("mistake", f"The stream of five tokens gives {shown(got)}. Items at {', '.join(map(str, items))}.")


def _judge_short(itl: Any) -> None:
    """Streams with fewer than two tokens have no gap."""
    for stream in (ONE, NONE):
        try:
            got = _ask(itl, "itl", stream)
        except Stumbled as stumbled:
            wrong("falls over on a short stream", stream=stream, error=type(stumbled.error).__name__)
        if got is None or _number(got) or _list(got):
            wrong("a gap out of nothing", stream=stream, got=shown(got))


def _list(got: Any) -> list[float]:
    """Read what `itl` returns; only plain numbers in a list or tuple."""
    if not isinstance(got, list | tuple):
        raise Finding("wrong type", f"`itl(events)` returns {shown(got)}. A list of gaps is asked for.")
    if not all(map(_number, got)):
        raise Finding("wrong type", f"`itl(events)` returns {shown(got)}. Each gap is one number, in milliseconds.")
    return list(got)


def _same(got: list[float], expected: list[float]) -> bool:
    return len(got) == len(expected) and all(map(_near, got, expected))


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
                "{got:g} is when the first item came, on the clock of the recording. "
                "The request was sent at {sent:g}, not at 0.",
                _TTFT.replace(" - sent[0]", ""),
            ),
            "the whole answer": Mistake(
                "{got:g} ms is the time to the end of the answer. The first token came long before.",
                _TTFT.replace("items[0] -", "items[-1] -"),
            ),
            "any event": Mistake(
                "{got:g} ms is when the Frontend received the request. Only events of kind `item` are tokens.",
                "def ttft(events):\n    return events[1][0] - events[0][0] if len(events) > 4 else None\n",
            ),
            "from the Frontend on": Mistake(
                "{got:g} ms begins when the Frontend received the request. You wait from the moment you send.",
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
