"""`dynlab.routing.kv`: the cost term by term, who wins, and what is booked. Against Dynamo itself: test_kv_parity."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import RoutingError
from dynlab.routing.kv import KvDecision, KvRouter, KvRouterConfig

B = 4
PROMPT = range(32)  # 8 blocks
OTHER = range(1000, 2000)


def router(config: KvRouterConfig | None = None, clock: VirtualClock | None = None) -> KvRouter:
    return KvRouter(B, config, rng=random.Random(7), clock=clock or VirtualClock())


def send(router: KvRouter, name: str, worker: int, tokens: Sequence[int], *, prefilled: bool = False) -> None:
    """Book a request at a worker, chosen or not."""
    router.reserve(name, replace(router.decide(tokens, [worker]), worker_id=worker))
    if prefilled:
        router.prefill_complete(name)


def costs(decision: KvDecision) -> dict[int, float]:
    return {term.worker_id: term.cost for term in decision.terms}


def uneven(config: KvRouterConfig | None = None) -> KvRouter:
    """Make a router for which PROMPT costs 18, 22 and 16 at workers 1, 2 and 3."""
    made = router(config)
    send(made, "a", 1, OTHER[:8], prefilled=True)  # two blocks to decode with
    send(made, "b", 2, OTHER[:12])  # three, and three to prefill
    return made


def chi_square(drawn: Counter[int], shares: dict[int, float]) -> float:
    total = drawn.total()
    return sum((drawn[worker] - total * share) ** 2 / (total * share) for worker, share in shares.items())


# ---------------------------------------------------------------------------- the cost


def test_the_cost_at_three_workers() -> None:
    """Eight blocks to prefill and eight to decode with, and on top what each worker has already: 18, 22, 16."""
    decision = uneven().decide(PROMPT, [1, 2, 3])

    assert {1: 18.0, 2: 22.0, 3: 16.0} == costs(decision)
    assert 3 == decision.worker_id
    assert [0, 12, 0] == [term.prefill_tokens for term in decision.terms]
    assert [8.0, 11.0, 8.0] == [term.raw for term in decision.terms]
    assert [10, 11, 8] == [term.decode_blocks for term in decision.terms]
    assert [1, 1, 0] == [term.active_requests for term in decision.terms]


def test_a_cached_prefix_saves_its_prefill() -> None:
    """Five of eight blocks cached: five less to prefill, worth `overlap_score_credit` each."""
    for credit, expected in ((1.0, 11.0), (0.5, 13.5), (0.0, 16.0), (2.0, 8.0)):
        made = router(KvRouterConfig(overlap_score_credit=credit))
        made.indexer.store(1, made.hashes(PROMPT)[:5])

        decision = made.decide(PROMPT, [1, 2])

        assert {1: expected, 2: 16.0} == costs(decision)
        assert 5 == decision.terms[0].overlap_blocks


def test_the_same_prompt_twice() -> None:
    """While its first prefill is pending the worker that has the prompt is no better than an idle one: a tie.

    After it the cached worker wins, 8 to 16.
    """
    made = router(KvRouterConfig(use_kv_events=False))
    send(made, "a", 1, PROMPT)
    assert {1: 16.0, 2: 16.0} == costs(made.decide(PROMPT, [1, 2]))

    made.prefill_complete("a")

    assert {1: 8.0, 2: 16.0} == costs(made.decide(PROMPT, [1, 2]))
    assert 1 == made.decide(PROMPT, [1, 2]).worker_id


def test_without_prefill_tracking_blocks_to_decode_are_all() -> None:
    """A prompt that is not prefilled yet does not count, and the overlap is taken from the blocks to decode with."""
    made = router(KvRouterConfig(router_track_prefill_tokens=False, use_kv_events=False))
    send(made, "a", 1, PROMPT)
    send(made, "b", 2, OTHER[:12])

    assert {1: 0.0, 2: 11.0, 3: 8.0} == costs(made.decide(PROMPT, [1, 2, 3]))


def test_without_kv_reuse_nothing_is_shared() -> None:
    """The same prompt twice at one worker is twice as many blocks, and freeing leaves none."""
    made = router(KvRouterConfig(router_assume_kv_reuse=False))
    send(made, "a", 1, PROMPT, prefilled=True)
    send(made, "b", 1, PROMPT, prefilled=True)

    assert [24, 8] == [term.decode_blocks for term in made.decide(PROMPT, [1, 2]).terms]
    made.free("a")
    made.free("b")
    assert [8, 8] == [term.decode_blocks for term in made.decide(PROMPT, [1, 2]).terms]


def test_the_credit_decays_with_what_is_ahead() -> None:
    """With decay 1 and as many blocks ahead as the prompt has, a cached block is worth half."""
    made = router(KvRouterConfig(overlap_score_credit_decay=1.0))
    for worker in (1, 2):
        made.indexer.store(worker, made.hashes(PROMPT))
    send(made, "a", 1, OTHER[:32])

    one, two = made.decide(PROMPT, [1, 2]).terms

    assert (0.5, 1.0) == (one.credit, two.credit)
    assert (16.0 - 4.0 + 16.0, 0.0 + 8.0) == (one.cost, two.cost)


def plain_cost(config: KvRouterConfig, isl: int, blocks: int, row: tuple[int, ...], least: int) -> float:
    """Work out one worker's cost as facts 5.2 write it down; see the docstring of `dynlab.routing.kv`."""
    prefill, overlap, active, shared, requests = row
    credit = config.overlap_score_credit
    if isl:
        credit /= 1 + config.overlap_score_credit_decay * ((prefill - least) / B) / math.ceil(isl / B)
    decode = active + blocks - shared
    if config.router_track_prefill_tokens:
        cost = config.prefill_load_scale * max(0.0, (prefill + isl) / B - credit * overlap) + decode
    else:
        cost = max(0.0, decode - credit * overlap)
    return cost + config.decode_active_request_weight * requests


@pytest.mark.parametrize("seed", range(12))
def test_the_cost_is_the_formulas(seed: int) -> None:
    """For random settings, prompts, caches and loads: the cost is what the formula gives for the terms."""
    rng = random.Random(seed)
    config = KvRouterConfig(
        overlap_score_credit=rng.choice([0.0, 0.5, 1.0, 1.5]),
        overlap_score_credit_decay=rng.choice([0.0, 0.7]),
        prefill_load_scale=rng.choice([0.0, 0.5, 1.0, 3.0]),
        decode_active_request_weight=rng.choice([0.0, 1.5]),
        router_track_prefill_tokens=rng.random() < 0.7,
    )
    made, workers = router(config), list(range(rng.randint(1, 6)))
    for n in range(60):
        tokens = [*PROMPT[: rng.randint(0, 32)], *rng.sample(OTHER, rng.randint(0, 9))]
        shared = made.loads.shared(made.hashes(tokens))
        prefill, active, requests = (column.tolist() for column in made.loads.columns(workers, 0.0))
        overlap = made.indexer.find_matches(made.hashes(tokens))
        rows = {
            w: (int(prefill[w]), overlap.get(w, 0), int(active[w]), shared.get(w, 0), int(requests[w])) for w in workers
        }
        expected = {
            w: plain_cost(config, len(tokens), len(tokens) // B, row, int(min(prefill))) for w, row in rows.items()
        }

        decision = made.decide(tokens, workers)

        assert expected == pytest.approx(costs(decision), abs=1e-9)
        assert min(expected.values()) == pytest.approx(expected[decision.worker_id], abs=1e-9)
        assert decision.overlap_blocks == overlap.get(decision.worker_id, 0)
        made.reserve(f"r{n}", decision)
        made.indexer.store(decision.worker_id, decision.sequence)
        if rng.random() < 0.5:
            made.prefill_complete(f"r{n}")
        if rng.random() < 0.4:
            made.free(f"r{n}")


def test_deciding_books_nothing() -> None:
    """A hundred decisions leave all costs as they were."""
    made = uneven()
    before = costs(made.decide(PROMPT, [1, 2, 3]))

    for _ in range(100):
        assert before == costs(made.decide(PROMPT, [1, 2, 3]))


def test_hashes_that_are_known_are_not_made_again() -> None:
    """Given the sequence hashes of a prompt, the decision is the same."""
    made = uneven()

    assert costs(made.decide(PROMPT, [1, 2, 3])) == costs(made.decide(PROMPT, [1, 2, 3], made.hashes(PROMPT)))


def test_a_prompt_of_nothing_goes_to_the_idlest() -> None:
    """Without a token there is nothing to prefill; what workers have to do already decides."""
    assert {1: 2.0, 2: 6.0, 3: 0.0} == costs(uneven(KvRouterConfig(overlap_score_credit_decay=1)).decide([], [1, 2, 3]))


def test_there_must_be_workers() -> None:
    """Without any, the error says so."""
    with pytest.raises(RoutingError, match="The KV router was given no workers to choose from"):
        router().decide(PROMPT, [])


# ---------------------------------------------------------------------------- the choice


def test_ties_are_broken_by_lot() -> None:
    """Of five workers three of which cost the same least, each of the three is as likely."""
    made = router()
    for worker in (2, 4):
        send(made, f"r{worker}", worker, OTHER[:8])

    drawn = Counter(made.decide(PROMPT, range(1, 6)).worker_id for _ in range(3_000))

    assert {1, 3, 5} == set(drawn)
    assert 13.82 > chi_square(drawn, dict.fromkeys((1, 3, 5), 1 / 3))


def shares(costs: dict[int, float], temperature: float) -> dict[int, float]:
    """Each worker's share is exp(-(cost - min) / ((max - min) * T)), over the sum of all."""
    low, high = min(costs.values()), max(costs.values())
    chances = {worker: math.exp(-(cost - low) / ((high - low) * temperature)) for worker, cost in costs.items()}
    return {worker: chance / sum(chances.values()) for worker, chance in chances.items()}


def test_the_known_shares() -> None:
    """Costs of 18, 22 and 16 at temperature 0.5: .311, .082 and .607."""
    found = shares(costs(uneven().decide(PROMPT, [1, 2, 3])), 0.5)

    assert {1: 0.311, 2: 0.082, 3: 0.607} == {worker: round(share, 3) for worker, share in found.items()}


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 5.0])
def test_a_temperature_gives_dearer_ones_their_chance(temperature: float) -> None:
    """Over 5,000 draws the shares are the formula's (chi-square, 99.9 %)."""
    made = uneven(KvRouterConfig(router_temperature=temperature))

    drawn = Counter(made.decide(PROMPT, [1, 2, 3]).worker_id for _ in range(5_000))

    assert 13.82 > chi_square(drawn, shares(costs(made.decide(PROMPT, [1, 2, 3])), temperature))


def test_with_a_temperature_equal_costs_are_equally_likely() -> None:
    """Nothing is divided by the difference of costs where there is none."""
    made = router(KvRouterConfig(router_temperature=0.5))

    drawn = Counter(made.decide(PROMPT, [1, 2, 3, 4]).worker_id for _ in range(4_000))

    assert 16.27 > chi_square(drawn, dict.fromkeys((1, 2, 3, 4), 1 / 4))


# ---------------------------------------------------------------------------- explained


def test_an_explanation_adds_the_cost_up() -> None:
    """As text, a line a worker; the one who would be chosen is marked."""
    made = uneven()
    made.indexer.store(3, made.hashes(PROMPT)[:2])

    assert (
        "worker 3: 2 of 8 blocks cached\n"
        "   1  prefill 8 - 1 * 0 cached, decode 10: cost 18\n"
        "   2  prefill 11 - 1 * 0 cached, decode 11: cost 22\n"
        "-> 3  prefill 8 - 1 * 2 cached, decode 8: cost 14"
    ) == repr(made.explain(PROMPT))


def test_an_explanation_changes_nothing() -> None:
    """Neither the books nor which of two that tie is drawn next."""
    asked, silent = router(), router()
    for _ in range(20):
        asked.explain(PROMPT, [1, 2, 3])

    drawn = [[made.decide(PROMPT, [1, 2, 3]).worker_id for _ in range(20)] for made in (asked, silent)]

    assert drawn[0] == drawn[1]
    assert [] == asked.loads.workers


def test_nobody_to_explain() -> None:
    """A router that knows nobody says so."""
    with pytest.raises(RoutingError, match="no workers"):
        router().explain(PROMPT)
