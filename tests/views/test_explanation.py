"""An explanation says which rule chose whom among whom, and why, as text and as HTML with the same words."""

from __future__ import annotations

import re
from html import unescape

import pytest

from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.tracing import RequestTrace
from dynlab.views.explanation import MAX_CANDIDATES, Explanation, reason

LOADS = (3, 1, 1, 5)


def decision(mode: str, chosen: int = 1, skipped: int | None = None, loads: tuple[int, ...] = LOADS, **detail: object):
    candidates = tuple(Candidate(7001 + n, f"Worker-{n}", load, n != skipped) for n, load in enumerate(loads))
    return RoutingDecision(mode, 7001 + chosen, candidates, detail)


def trace(*decisions: RoutingDecision) -> RequestTrace:
    found = RequestTrace("r-1")
    parent = found.hop(None, "Frontend", "fegenerate")
    for each in decisions:
        hop = Hop(parent, "Worker", "begenerate")
        hop.instance_id, hop.worker = each.instance_id, each.chosen.worker
        hop.decision = each
        hop.ended("ok")
        found.hops.append(hop)
    return found


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            decision("round-robin", turn=5),
            "Worker-1 (id 7002): turn 5 among 4 instances in the order of their ids: number 2.",
        ),
        (
            decision("round-robin", chosen=2, skipped=0, turn=4),
            "Worker-2 (id 7003): turn 4 among 3 instances in the order of their ids: number 2.",
        ),
        (decision("random"), "Worker-1 (id 7002): drawn from 4 instances, all equally likely."),
        (decision("random", skipped=3), "Worker-1 (id 7002): drawn from 3 instances, all equally likely."),
        (
            decision("power-of-two", sampled=[7001, 7002]),
            (
                "Worker-1 (id 7002): drew 7001 (3 active) and 7002 (1 active); the one with fewer requests in flight "
                "wins, the first on a tie."
            ),
        ),
        (
            decision("least-loaded", tied=2),
            "Worker-1 (id 7002): 1 active is the fewest of 4 instances, drawn from 2 that tie.",
        ),
        (
            decision("least-loaded", loads=(3, 0), tied=1),
            "Worker-1 (id 7002): 0 active is the fewest of 2 instances.",
        ),
        (decision("direct"), "Worker-1 (id 7002): the caller named it."),
        (decision("random", chosen=0, loads=(2,)), "Worker-0 (id 7001): the only one that could be chosen."),
        (decision("my_pick"), "Worker-1 (id 7002): the function my_pick() returned it."),
    ],
    ids=lambda value: value.mode if isinstance(value, RoutingDecision) else None,
)
def test_each_rule_has_its_reason(made: RoutingDecision, sentence: str) -> None:
    """The sentence names what the rule looked at."""
    assert sentence == reason(made)


def test_as_text_it_lists_every_candidate() -> None:
    """An arrow marks the chosen one; loads are those at the moment of the pick; skipped ones say why."""
    explanation = Explanation.of(trace(decision("round-robin", skipped=3, turn=1)))

    assert [
        "Request 'r-1' was routed 1 time(s).",
        "Worker.begenerate by round-robin, ok",
        "  chosen: Worker-1 (id 7002): turn 1 among 3 instances in the order of their ids: number 2.",
        "     7001  Worker-0                3 active",
        "  -> 7002  Worker-1                1 active",
        "     7003  Worker-2                1 active",
        "     7004  Worker-3                5 active  skipped: it failed a moment ago",
    ] == repr(explanation).splitlines()


def test_picks_stand_in_the_order_of_the_way() -> None:
    """A request that was tried twice has two picks; the Frontend, which nobody picked, has none."""
    explanation = Explanation.of(trace(decision("random", chosen=0), decision("random", chosen=3)))

    assert [7001, 7004] == [each.instance_id for each in explanation.decisions]
    assert 2 == repr(explanation).count("chosen: ")


def test_a_request_that_nobody_routed_says_so() -> None:
    """An answer of the Frontend alone."""
    explanation = Explanation.of(trace())

    assert "Request 'r-1' was routed 0 time(s)." == repr(explanation)
    assert [] == explanation.decisions
    assert explanation._repr_html_().startswith('<div role="group"')


def test_as_html_it_says_the_same() -> None:
    """Every candidate with its load as a bar and a number, the chosen one marked, and a label for who hears it."""
    explanation = Explanation.of(trace(decision("least-loaded", skipped=3, tied=2)))
    html = explanation._repr_html_()
    text = text_of(html)

    assert reason(explanation.decisions[0]) in text
    assert f"Why request r-1 went where it went: {reason(explanation.decisions[0])}" in html
    assert ["7001", "7002", "7003", "7004"] == re.findall(r"<td>(\d{4})</td>", html)
    assert 1 == html.count("➜")
    assert re.search(r"➜\s+Worker-1\s+7002", text)
    assert "▮" * 10 + " 5" in html
    assert 1 == html.count("skipped: it failed a moment ago")


@pytest.mark.parametrize("chosen", [0, MAX_CANDIDATES, 39])
def test_of_many_candidates_the_chosen_one_is_always_shown(chosen: int) -> None:
    """The list is cut, and says how many are missing, but never hides the answer to the question."""
    explanation = Explanation.of(trace(decision("random", chosen=chosen, loads=(0,) * 40)))

    assert 1 == repr(explanation).count("\n  -> ")
    assert f"  -> {7001 + chosen}  Worker-{chosen} " in repr(explanation)
    assert "… and 24 more candidates" in repr(explanation)
    html = explanation._repr_html_()
    assert 1 == html.count("➜")
    assert re.search(rf"➜\s+Worker-{chosen}\s+{7001 + chosen}", text_of(html))
    assert "more candidates" in html


def test_names_are_text_and_nothing_else() -> None:
    """A function may be called anything; it cannot become markup."""
    found = trace(decision("<script>"))
    found.request_id = '<r&">'
    page = Explanation.of(found)._repr_html_()

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<r&" not in page
