"""`dynlab.simulate.workload`, `chats`, `service` and `draws`: what is drawn is what was asked for, and the same again.

Means and shares are compared within four standard errors of what was asked for, with fixed seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynlab.errors import ConfigError
from dynlab.simulate.chats import chats
from dynlab.simulate.draws import restarting_sum
from dynlab.simulate.service import Service, constant, exponential, giants, heavy_tailed
from dynlab.simulate.workload import Workload, bursty, poisson, prefix_families

N = 40_000
MAKERS: tuple[Callable[..., Workload], ...] = (poisson, bursty, prefix_families, chats)
SERVICES = (constant(2.0), exponential(2.0), heavy_tailed(2.0, 2.5), giants(mean=2.0))
COLUMNS = ("arrival_s", "service_s", "isl", "osl", "family")


def columns(workload: Workload) -> dict[str, list[Any]]:
    """Return all that a workload says of its requests."""
    return {name: getattr(workload, name).tolist() for name in COLUMNS} | {"sequences": list(workload.sequences)}


def by_hand(**changed: Any) -> Workload:
    """Return a workload of three requests, with some columns given."""
    given = {
        "arrival_s": [0.0, 1.0, 4.0],
        "service_s": [1, 2, 3],
        "isl": [0, 0, 0],
        "osl": [1, 1, 1],
        "sequences": [()] * 3,
        "family": [-1, -1, -1],
    }
    return Workload("by hand", **(given | changed))


# ---------------------------------------------------------------------------- common random numbers


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_reproduces_a_workload(make: Callable[..., Workload]) -> None:
    """The same seed gives the same requests, another one gives others."""
    first = make(500, 3.0, seed=7)

    assert columns(first) == columns(make(500, 3.0, seed=7))
    assert columns(first)["arrival_s"] != columns(make(500, 3.0, seed=8))["arrival_s"]


@pytest.mark.parametrize("make", MAKERS)
def test_another_rate_stretches_the_arrivals_and_changes_nothing_else(make: Callable[..., Workload]) -> None:
    """At a quarter of the rate the same requests come, each four times as late."""
    fast, slow = make(500, 8.0, seed=7), make(500, 2.0, seed=7)

    assert (4 * fast.arrival_s).tolist() == slow.arrival_s.tolist()
    assert columns(fast) | {"arrival_s": None} == columns(slow) | {"arrival_s": None}


@pytest.mark.parametrize("make", MAKERS)
def test_more_requests_begin_with_the_same_arrivals(make: Callable[..., Workload]) -> None:
    """The arrivals and the families of a short workload are the first ones of a longer one."""
    short, long = make(50, 3.0, seed=7), make(5_000, 3.0, seed=7).head(50)

    assert short.arrival_s.tolist() == long.arrival_s.tolist()
    assert columns(short)["service_s"] == columns(long)["service_s"]
    assert columns(short)["isl"] == columns(long)["isl"]


def test_arrivals_do_not_depend_on_what_is_wanted() -> None:
    """Service times, families, lengths and chats change nothing about who comes when."""
    expected = poisson(500, 3.0, seed=7).arrival_s.tolist()
    others = [poisson(500, 3.0, service=service, seed=7) for service in SERVICES]
    others += [prefix_families(500, 3.0, seed=7), prefix_families(500, 3.0, families=3, zipf=0, osl=9, seed=7)]
    others += [chats(500, 3.0, seed=7), chats(500, 3.0, users=3, turns=9.0, seed=7)]

    assert [expected] * len(others) == [other.arrival_s.tolist() for other in others]


def test_what_is_wanted_does_not_depend_on_the_arrivals() -> None:
    """Service times are the same however they come; families the same whatever else their prompts hold."""
    service = exponential()
    smooth, rough = poisson(500, 3.0, service=service, seed=7), bursty(500, 3.0, service=service, seed=7)
    short, long = prefix_families(500, 3.0, seed=7), prefix_families(500, 3.0, prefix_blocks=3, unique_blocks=1, seed=7)

    assert smooth.service_s.tolist() == rough.service_s.tolist()
    assert smooth.arrival_s.tolist() != rough.arrival_s.tolist()
    assert short.family.tolist() == long.family.tolist()


def test_a_mean_stretches_service_times() -> None:
    """At twice the mean each request takes twice as long, by every rule."""
    for rule in (constant, exponential, heavy_tailed, lambda mean: giants(mean=mean)):
        one, two = (poisson(500, 3.0, service=rule(mean), seed=7).service_s for mean in (1.0, 2.0))

        assert (2 * one).tolist() == two.tolist()


# ---------------------------------------------------------------------------- arrivals


def test_poisson_arrivals_are_independent() -> None:
    """Gaps have the mean and the deviation of an exponential, and counts of ten seconds vary as much as their mean."""
    workload = poisson(N, 5.0, seed=7)
    gaps = np.diff(workload.arrival_s)
    counts = np.bincount((workload.arrival_s / 10).astype(int))[:-1]

    assert 0.2 == pytest.approx(gaps.mean(), rel=4 / math.sqrt(N))
    assert 0.2 == pytest.approx(gaps.std(), rel=4 * math.sqrt(2 / N))
    assert 0 == pytest.approx(np.corrcoef(gaps[1:], gaps[:-1])[0, 1], abs=4 / math.sqrt(N))
    assert 1 == pytest.approx(counts.var() / counts.mean(), abs=4 * math.sqrt(2 / len(counts)))


@pytest.mark.parametrize("shape", [{}, {"burst": 20.0, "share": 0.05}, {"burst": 2.0, "share": 0.7, "stay": 5.0}])
def test_bursts_keep_the_mean_rate(shape: dict[str, float]) -> None:
    """Over twenty seeds as many come as by a Poisson process of that rate, and counts vary more than their mean."""
    workloads = [bursty(N, 5.0, seed=seed, **shape) for seed in range(20)]
    rates = np.array([workload.rate for workload in workloads])
    counts = np.bincount((workloads[0].arrival_s / 10).astype(int))[:-1]

    assert 5.0 == pytest.approx(rates.mean(), abs=4 * rates.std() / math.sqrt(len(rates)))
    assert 1 + 4 * math.sqrt(2 / len(counts)) < counts.var() / counts.mean()


def test_a_burst_of_one_is_none() -> None:
    """With a burst as fast as the calm, arrivals are those of `poisson`."""
    assert poisson(500, 3.0, seed=7).arrival_s == pytest.approx(bursty(500, 3.0, burst=1.0, seed=7).arrival_s)


def test_bursts_come_as_often_and_as_fast_as_was_said() -> None:
    """Bursts of 50 seconds, with a thousand times the rate of the calm, fill a twentieth of the time."""
    workload = bursty(N, 1.0, burst=1000.0, share=0.05, stay=50.0, seed=7)
    gaps = np.diff(workload.arrival_s)
    calm = gaps > 2.0  # in a burst, where 20 come a second, nobody is waited for so long
    in_bursts = gaps[~calm].sum()
    bursts = workload.duration_s / 1000  # a burst and the calm before it take 50 and 950 seconds

    assert 1000 / 50.95 == pytest.approx((~calm).sum() / in_bursts, rel=0.02)
    assert 0.05 == pytest.approx(in_bursts / workload.duration_s, rel=4 * math.sqrt(2 / bursts))


# ---------------------------------------------------------------------------- service times


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_service_times_have_the_mean_that_was_said(service: Service) -> None:
    """Within four standard errors, whatever their shape; none is 0."""
    times = poisson(N, 1.0, service=service, seed=7).service_s

    assert 2.0 == pytest.approx(times.mean(), abs=4 * times.std() / math.sqrt(N) + 1e-12)
    assert times.min() > 0


def test_service_times_have_their_rules_shape() -> None:
    """Constant ones do not vary, exponential ones by their mean; a Pareto's share falls as it says."""
    flat, exp, heavy, two = (poisson(N, 1.0, service=service, seed=7).service_s for service in SERVICES)

    assert [2.0] == np.unique(flat).tolist()
    assert 2.0 == pytest.approx(exp.std(), rel=4 * math.sqrt(2 / N))
    assert heavy.min() >= 2.0 * 1.5 / 2.5
    assert 0.5**2.5 == pytest.approx((heavy > 2 * heavy.min()).mean(), abs=4 * math.sqrt(0.18 * 0.82 / N))
    assert 2 == len(np.unique(two))


def test_giants_are_as_many_and_as_large_as_was_said() -> None:
    """A twentieth of the requests is 19 times as long as the others, and the mean is 1: the short ones take 1 / 1.9."""
    times = poisson(N, 1.0, service=giants(), seed=7).service_s
    short, long = np.unique(times)

    assert (1 / 1.9, 19 / 1.9) == (pytest.approx(short), pytest.approx(long))
    assert 0.05 == pytest.approx((times == long).mean(), abs=4 * math.sqrt(0.05 * 0.95 / N))


# ---------------------------------------------------------------------------- prompts


def test_families_come_as_often_as_zipf_says() -> None:
    """Of 24 families the first comes twice as often as the second; with an exponent of 0 all come equally often."""
    shares = np.bincount(prefix_families(N, 1.0, seed=7).family, minlength=24) / N
    flat = np.bincount(prefix_families(N, 1.0, zipf=0, seed=7).family, minlength=24) / N
    expected = 1 / np.arange(1, 25)
    expected /= expected.sum()

    assert np.all(np.abs(shares - expected) < 4 * np.sqrt(expected / N))
    assert np.all(np.abs(flat - 1 / 24) < 4 * np.sqrt(1 / 24 / N))


def test_prompts_share_their_familys_prefix_and_nothing_else() -> None:
    """Two prompts of a family have 3 ids in common, the first ones; two of different families none."""
    workload = prefix_families(200, 1.0, families=5, prefix_blocks=3, unique_blocks=2, osl=7, block_size=8, seed=7)
    prefixes = {(family, sequence[:3]) for family, sequence in zip(workload.family, workload.sequences, strict=True)}
    uses = Counter(block for sequence in workload.sequences for block in sequence[3:])

    assert 5 == len(prefixes) == len({prefix for _, prefix in prefixes})
    assert {1} == set(uses.values())
    assert set() == set(uses) & {block for _, prefix in prefixes for block in prefix}
    assert ({40}, {7}, {5}, 8) == (
        set(workload.isl.tolist()),
        set(workload.osl.tolist()),
        set(map(len, workload.sequences)),
        workload.block_size,
    )


def test_each_turn_is_the_chat_so_far_and_more() -> None:
    """A chat's prompts each begin with the one before; those of two chats share the system prompt alone."""
    workload = chats(3_000, 1.0, users=10, turns=3.0, system_blocks=2, osl=40, seed=7)
    last: dict[int, tuple[int, ...]] = {}
    owner: dict[int, int] = {}
    for chat, sequence, isl in zip(workload.family.tolist(), workload.sequences, workload.isl, strict=True):
        before = last.get(chat, (0, 1))
        answered = 3 if chat in last else 0  # 40 tokens are three blocks of 16
        assert before == sequence[: len(before)]
        assert len(before) + answered < len(sequence) == isl / 16
        assert {chat} == {owner.setdefault(block, chat) for block in sequence[2:]}
        last[chat] = tuple(sequence)

    assert 3_000 / 3 == pytest.approx(len(last), rel=4 / math.sqrt(3_000))


def test_chats_have_as_many_turns_and_words_as_was_said() -> None:
    """In the mean: turns of a chat, blocks of a question, and the seconds that a user thinks."""
    workload = chats(N, 5.0, users=10, turns=4.0, question_blocks=6, system_blocks=0, osl=16, seed=7)
    begun: dict[int, float] = {}
    thought, asked, lengths = [], [], dict[int, int]()
    for chat, at, isl in zip(workload.family.tolist(), workload.arrival_s.tolist(), workload.isl.tolist(), strict=True):
        if chat in begun:
            thought.append(at - begun[chat])
        asked.append(isl / 16 - lengths.get(chat, -1) - 1)
        begun[chat], lengths[chat] = at, isl // 16

    assert 4.0 == pytest.approx(N / len(begun), rel=4 / math.sqrt(N / 4))
    assert 10 / 5.0 == pytest.approx(np.mean(thought), rel=4 / math.sqrt(N))
    assert 6.0 == pytest.approx(np.mean(asked), rel=4 / math.sqrt(N))


def test_a_chat_of_one_turn_has_no_past() -> None:
    """With one turn each, every prompt begins after the system prompt; without one, prompts share nothing."""
    workload = chats(200, 1.0, turns=1.0, system_blocks=0, seed=7)
    uses = Counter(block for sequence in workload.sequences for block in sequence)

    assert {1} == set(uses.values())
    assert list(range(200)) == sorted(workload.family.tolist())


@given(st.lists(st.lists(st.integers(-9, 9), min_size=1), min_size=1))
def test_running_sums_begin_anew(runs: list[list[int]]) -> None:
    """As summing each run by itself."""
    starts = np.cumsum([0, *map(len, runs[:-1])])

    expected = [value for run in runs for value in np.cumsum(run).tolist()]
    assert expected == restarting_sum(np.concatenate(runs), starts).tolist()


# ---------------------------------------------------------------------------- the workload itself


def test_at_rate_stretches_to_exactly_that_rate() -> None:
    """Three requests in four seconds, at three a second, come within one; all else stays."""
    workload = by_hand().at_rate(3.0)

    assert [0.0, 0.25, 1.0] == workload.arrival_s.tolist()
    assert 3.0 == workload.rate
    assert columns(by_hand()) | {"arrival_s": None} == columns(workload) | {"arrival_s": None}


def test_the_head_is_the_first_requests() -> None:
    """All columns are cut alike; of fewer requests than asked for all stay."""
    workload = prefix_families(100, 1.0, seed=7)

    assert {name: column[:9] for name, column in columns(workload).items()} == columns(workload.head(9))
    assert columns(workload) == columns(workload.head(1_000))
    assert (7, 16) == (workload.head(9).seed, workload.head(9).block_size)


def test_columns_are_read_only_and_the_readers_own_are_not() -> None:
    """Nobody changes the requests that two routers are to be compared on; an array that was given stays as it was."""
    mine = np.array([0.0, 1.0, 4.0])
    workload = by_hand(arrival_s=mine)

    with pytest.raises(ValueError, match="read-only"):
        workload.arrival_s[0] = 9.0
    mine[0] = 0.5


def test_numbers_out_of_numpy_are_numbers() -> None:
    """A count, rate or seed may come out of an array."""
    ours = poisson(np.int64(9), np.float64(2.0), seed=np.int64(3))  # type: ignore[arg-type]

    assert columns(poisson(9, 2.0, seed=3)) == columns(ours)


def test_a_workload_says_what_it_is() -> None:
    """In one line: who, how many, how fast, what they want, and what that adds up to."""
    assert "<Workload by hand: 3 requests, 0.75 a second, mean service 2 s; keeps 1.5 workers busy>" == repr(by_hand())
    assert (
        "<Workload by hand: 3 requests, 0.75 a second, mean 1,000 tokens in and 8 out; "
        "750 tokens in and 6 out a second, seed 3>"
    ) == repr(by_hand(isl=[1000] * 3, osl=[8] * 3, service_s=[0] * 3, seed=3))
    assert "<Service heavy-tailed (Pareto 1.5), mean 2 s>" == repr(heavy_tailed(2.0))
    assert "Poisson, 0.05 giants of 19 times the others" == poisson(9, 1.0, service=giants()).name


def test_offered_load_is_workers_that_are_kept_busy() -> None:
    """A rate of 0.75 of two seconds each is one and a half workers; tokens do not say."""
    assert 1.5 == by_hand().offered_load
    assert 0.0 == by_hand(service_s=[0, 0, 0]).offered_load
    assert math.inf == by_hand(arrival_s=[0, 0, 0]).rate


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"service_s": [1.0]}, r"service_s has 1 entries for 3 requests"),
        ({"sequences": [()]}, r"sequences has 1 entries for 3 requests"),
        ({"arrival_s": [0, 2, 1]}, r"arrival_s\[2\]=1.0 is earlier than the 2.0 before it"),
        ({"arrival_s": [-1, 0, 1]}, r"arrival_s\[0\]=-1.0 must be a finite number of 0 or more"),
        ({"arrival_s": [0, 1, math.nan]}, r"arrival_s\[2\]=nan must be a finite number"),
        ({"service_s": [0, math.inf, 1]}, r"service_s\[1\]=inf must be a finite number"),
        ({"osl": [1, 0, 1]}, r"osl\[1\]=0 must be a finite number of 1 or more"),
        ({"family": [-2, 0, 0]}, r"family\[0\]=-2 must be a finite number of -1 or more"),
        ({"isl": [1.5, 2, 3]}, r"isl must be whole numbers, one for each of 1 or more requests, not \[1.5, 2, 3\]"),
        ({"isl": [[1], [1, 2], [3]]}, r"isl must be whole numbers"),
        ({"arrival_s": "later"}, r"arrival_s must be numbers, one for each of 1 or more requests, not 'later'"),
        ({"arrival_s": []}, r"arrival_s must be numbers, one for each of 1 or more requests"),
        ({"block_size": 0}, r"block_size=0 must be a whole number from 1 to 2,147,483,647"),
    ],
)
def test_columns_that_cannot_be(changed: dict[str, Any], words: str) -> None:
    """The column, the entry, what it is, and what may be there."""
    with pytest.raises(ConfigError, match=words):
        by_hand(**changed)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 0}, "n=0 must be a whole number of requests, from 1 to 100,000,000"),
        ({"n": 1.5}, "n=1.5 must be"),
        ({"n": True}, "n=True must be"),
        ({"n": 10**12}, "n=1000000000000 must be"),
        ({"rate": 0}, r"rate=0 must be a number above 0 \(1e-09 to 1e\+09\)"),
        ({"rate": "fast"}, "rate='fast' must be a number above 0"),
        ({"rate": math.nan}, "rate=nan must be"),
        ({"rate": math.inf}, "rate=inf must be"),
        ({"seed": -1}, "seed=-1 must be a whole number, 0 or more"),
        ({"seed": None}, "seed=None must be a whole number"),
    ],
)
def test_what_nobody_can_draw(make: Callable[..., Workload], asked: dict[str, Any], words: str) -> None:
    """Each maker names the argument, its value, and what is allowed."""
    with pytest.raises(ConfigError, match=words):
        make(**({"n": 10, "rate": 1.0} | asked))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: bursty(9, 1.0, burst=0.5), "burst=0.5 must be a number from 1 to"),
        (lambda: bursty(9, 1.0, stay=0.1), "stay=0.1 must be a number from 1 to"),
        (lambda: bursty(9, 1.0, share=1.0), "share=1.0 must be a share: above 0 and below 1"),
        (lambda: prefix_families(9, 1.0, families=0), "families=0 must be a whole number from 1"),
        (lambda: prefix_families(9, 1.0, prefix_blocks=2.5), "prefix_blocks=2.5 must be a whole number"),  # type: ignore[arg-type]
        (lambda: prefix_families(9, 1.0, unique_blocks=-1), "unique_blocks=-1 must be a whole number from 0"),
        (lambda: prefix_families(9, 1.0, zipf=-1.0), "zipf=-1.0 must be a number from 0 to"),
        (lambda: prefix_families(9, 1.0, osl=0), "osl=0 must be a whole number from 1"),
        (lambda: chats(9, 1.0, turns=0.5), "turns=0.5 must be a number from 1 to"),
        (lambda: chats(9, 1.0, users=0), "users=0 must be a whole number from 1"),
        (lambda: chats(9, 1.0, system_blocks=-1), "system_blocks=-1 must be a whole number from 0"),
        (lambda: poisson(9, 1.0, service=2.0), "service=2.0 says no service times; give constant"),  # type: ignore[arg-type]
        (lambda: poisson(9, 1.0, service=exponential), "service=<function exponential.* says no service times"),  # type: ignore[arg-type]
        (lambda: constant(0), "mean=0 must be a number above 0"),
        (lambda: exponential("1"), "mean='1' must be a number above 0"),  # type: ignore[arg-type]
        (lambda: heavy_tailed(1.0, 1.0), "alpha=1.0 must be above 1; heavier tails have no mean"),
        (lambda: giants(share=0), "share=0 must be a share: above 0 and below 1"),
        (lambda: giants(factor=-19.0), "factor=-19.0 must be a number above 0"),
        (lambda: by_hand().at_rate(0), "rate=0 must be a number above 0"),
        (lambda: by_hand(arrival_s=[0, 0, 0]).at_rate(2.0), "All 3 requests come at second 0: there are no gaps"),
        (lambda: by_hand().head(0), "n=0 must be a whole number from 1"),
    ],
)
def test_each_mistake_has_its_sentence(draw: Callable[[], object], words: str) -> None:
    """The argument, the value, and what is allowed."""
    with pytest.raises(ConfigError, match=words):
        draw()
