"""What is said of a pick by cost is what the router worked out, also where a file does not say all of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from dynlab.protocols import RoutingDecision
from dynlab.routing.kv import KvRouter, KvRouterConfig
from dynlab.views.kv_terms import Scores
from tests.views.conftest import FIRST_ID, kv_decision

DOCUMENTED = kv_decision([2, 5, 8], [10, 5, 9])
"""The three workers of Dynamo's documentation."""


def test_the_documented_three() -> None:
    """18, 10 and 11: the second wins, though the third has the most cached."""
    scores = Scores.of(DOCUMENTED)

    assert [18, 10, 11] == [score.cost for score in scores]
    assert [(8, 0, 10), (5, 0, 5), (2, 0, 9)] == [score.left for score in scores]
    assert (
        "DummyWorker-1 wins with 10, though DummyWorker-2 has the most of the prompt cached (8 of 10 blocks)"
    ) == scores.finding
    assert (
        "cost 10 is the lowest of 3 workers: 5 of the prompt's 10 blocks are cached, 5 to prefill, 5 to decode with"
    ) == scores.why


def test_a_tie_is_by_lot() -> None:
    """Nobody was better than the others; the sentence does not pretend so."""
    scores = Scores.of(kv_decision([0, 0, 0], [10, 10, 12], chosen=1))

    assert "cost 20 is the lowest of 3 workers, drawn by lot from 2 that tie: 0 of" in scores.why
    assert "DummyWorker-1 wins with 20, drawn by lot from 2 that tie; nobody has any of the prompt cached" == (
        scores.finding
    )
    assert {"lowest cost": False, "tie": True, "most cached": False} == scores.notes(FIRST_ID)


def test_a_dear_one_wins_only_by_temperature() -> None:
    """Then it is not called the lowest."""
    scores = Scores.of(replace(DOCUMENTED, instance_id=FIRST_ID))

    assert "cost 18, not the lowest (10 of DummyWorker-1); with a temperature, dearer ones have their chance: 2 of" in (
        scores.why
    )
    assert (
        "A temperature let DummyWorker-0 win with 18, though DummyWorker-1 costs 10, and DummyWorker-2 has the most "
        "of the prompt cached (8 of 10 blocks)"
    ) == scores.finding


@pytest.mark.parametrize("credit", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4 / 3])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_parts_add_up_to_the_cost(credit: float, scale: float, weight: float) -> None:
    """Whatever the router's weights are, though the pick does not tell them."""
    made = kv_decision(
        [0, 3, 10], [4, 9, 20], prefill=[0, 90, 400], requests=[0, 1, 3], credit=credit, scale=scale, weight=weight
    )

    for score, requests in zip(Scores.of(made), [0, 1, 3], strict=True):
        assert pytest.approx(score.cost) == sum(score.left) + score.weight
        assert pytest.approx(requests * weight) == score.weight
        assert pytest.approx(scale * 10) == score.prompt


def test_without_prefill_the_credit_is_taken_off_decode() -> None:
    """As the router does that does not track prefill."""
    router = KvRouter(4, KvRouterConfig(router_track_prefill_tokens=False), rng=Random(1))
    tokens = list(range(22))
    router.indexer.store(7, router.hashes(tokens)[:3])

    scores = Scores.of(router.decide(tokens, [5, 7]), names={7: "DummyWorker-7"})

    assert [("worker 5", 5, 0, 5), ("DummyWorker-7", 2, 3, 5)] == [
        (s.worker, s.cost, s.credit, s.decode) for s in scores
    ]
    assert "DummyWorker-7 wins with 2; nobody has more of the prompt cached (3 of 5 blocks)" == scores.finding


def test_a_decision_of_the_router_needs_no_trace() -> None:
    """`KvRouter.decide` gives the same terms as the pick that was made from it."""
    router = KvRouter(4, rng=Random(1))
    tokens = list(range(21))
    router.indexer.store(7, router.hashes(tokens)[:4])

    scores = Scores.of(router.decide(tokens, [5, 7]))

    assert scores.finding.startswith("Worker 7 wins with 6.25; nobody has more")
    assert "cost 6.25 is the lowest of 2 workers: 4 of the prompt's 5 blocks are cached, 1.25 to prefill, 5 to" in (
        scores.why
    )


@pytest.mark.parametrize("name", [*DOCUMENTED.detail])
@pytest.mark.parametrize("value", [None, "?", (1, 2), [None, None, None]])
def test_what_a_file_does_not_tell_is_not_made_up(name: str, value: object) -> None:
    """Without a term, or with one that is nonsense, there are no scores, and no error."""
    missing = {key: column for key, column in DOCUMENTED.detail.items() if key != name}

    for detail in (missing, {**missing, name: value}):
        scores = Scores.of(replace(DOCUMENTED, detail=detail))
        assert not scores or name in ("prefill_tokens", "active_requests")
        assert scores.finding


def test_unknown_terms_and_lists_do_not_disturb() -> None:
    """What JSON gives back, and what a later version adds."""
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in DOCUMENTED.detail.items()}

    assert Scores.of(DOCUMENTED) == Scores.of(replace(DOCUMENTED, detail={**lists, "later": object()}))
    assert not Scores.of(RoutingDecision("random", FIRST_ID, DOCUMENTED.candidates, DOCUMENTED.detail))
    assert not Scores.of(replace(DOCUMENTED, instance_id=1))


def test_of_many_the_ones_that_matter_are_shown() -> None:
    """The chosen, the cheapest and the one with the fullest cache, then those that cost least."""
    cached, decode = [0] * 40, list(range(40, 0, -1))
    cached[3] = 9
    scores = Scores.of(kv_decision(cached, decode, chosen=1))

    shown = [score.instance_id - FIRST_ID for score in scores.shown(16)]

    assert [1, 3, *range(26, 40)] == shown
    assert "cost 25 to 50" == scores.span(each for each in scores.by_id if each - FIRST_ID not in shown)
