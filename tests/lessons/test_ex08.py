"""Reports that leave one thing out, and a credit that is enough: answers held against runs of the simulator."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from dynlab.lessons.claims import CLAIMS
from dynlab.lessons.exercise import Exercise
from dynlab.lessons.exercises.ex08 import CHOICES, EXERCISES, LIMIT_S, LOAD, REPORTS, SEEDS, WORKER, measured
from dynlab.simulate import Run, prefix_families, simulate

MISSING, CREDIT = EXERCISES
RIGHT = ("baseline", "load", "drops", "prefix share")


def answer_of(exercise: Exercise, source: str) -> Any:
    cell: dict[str, Any] = {}
    exec(source, cell)
    return cell[exercise.answer]


# ---------------------------------------------------------------------------- 08.1


def test_one_order_of_the_words_is_right() -> None:
    """Of all, also with a word twice."""
    right = [order for order in permutations(CHOICES) if MISSING.verdict(order).state == "correct"]

    assert [RIGHT] == right
    assert {"mistake"} == {MISSING.verdict((word,) * 4).state for word in CHOICES}


def test_the_right_answer_is_told_why() -> None:
    """A reason for each of the four."""
    message = MISSING.verdict(RIGHT).message

    assert all(f"{name}, {report.missing}: {report.why}." in message for name, report in REPORTS.items())


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("word", CHOICES)
def test_a_wrong_word_is_answered_with_the_reports_own(name: str, word: str) -> None:
    """It names the report, and quotes where that states what it is said to leave out; other words stay out of it."""
    place = list(REPORTS).index(name)
    answer = [*RIGHT[:place], word, *RIGHT[place + 1 :]]
    verdict = MISSING.verdict(answer)

    if word == REPORTS[name].missing:
        assert "correct" == verdict.state
        return
    assert ("mistake", f"{word} is stated") == (verdict.state, verdict.mistake)
    assert verdict.message.startswith(f"{name} ")
    assert REPORTS[name].stated[word] in verdict.message
    assert REPORTS[name].why not in verdict.message


def test_several_wrong_words_name_all_reports() -> None:
    """All are to be looked at again, and the first is quoted."""
    verdict = MISSING.verdict(("load", "baseline", "drops", "prefix share"))

    assert "Look again at A, B. A states its load: '7.5 prompts a second'." == verdict.message


def test_each_report_states_what_is_quoted() -> None:
    """Its words stand in it, and it states all but one."""
    for report in REPORTS.values():
        assert {*CHOICES} == {report.missing, *report.stated}
        quoted = {word: text.replace("32 of 40 blocks", "Of 40 blocks") for word, text in report.stated.items()}
        assert all(text in report.text for text in quoted.values()), quoted


@pytest.mark.parametrize(
    "answer",
    ["baseline", ("baseline", "load"), 7, ("a", "b", "c", "d"), (1, 2, 3, 4), {"A": "load"}, [..., "load", 1, 2]],
    ids=str,
)
def test_what_is_no_answer_is_of_the_wrong_type(answer: Any) -> None:
    """Nothing raises; the four words are named where one is none of them."""
    assert "wrong type" == MISSING.verdict(answer).state


@pytest.mark.parametrize(
    "answer", [list(RIGHT), tuple(word.upper() for word in RIGHT), dict(zip("ABCD", RIGHT, strict=True))], ids=str
)
def test_the_form_does_not_matter(answer: Any) -> None:
    """A list, a mapping by report, and other letters."""
    assert "correct" == MISSING.verdict(answer).state


def test_nothing_is_not_answered() -> None:
    """As it stands in the notebook."""
    assert ["empty", "empty"] == [MISSING.verdict((...,) * 4).state, CREDIT.verdict((..., ...)).state]


# ---------------------------------------------------------------------------- the reports are runs


def runs(router: str, load: float, queue_limit: int | None = None, prefix_blocks: int = 32) -> list[Run]:
    own = 40 - prefix_blocks
    work = [
        prefix_families(1000, 5 * load, zipf=1.3, seed=seed, prefix_blocks=prefix_blocks, unique_blocks=own)
        for seed in SEEDS
    ]
    return [
        simulate(each, workers=4, engine=WORKER, router_mode=router, seed=seed, queue_limit=queue_limit)
        for seed, each in zip(SEEDS, work, strict=True)
    ]


def mean_s(runs: list[Run]) -> float:
    return float(np.mean([run.steady().ttft_s.mean() for run in runs]))


def p99_s(runs: list[Run]) -> float:
    return float(np.mean([np.quantile(run.steady().ttft_s, 0.99) for run in runs]))


def test_the_numbers_of_the_reports_were_measured() -> None:
    """Each is the mean of the three seeds, to the digits that it has."""
    a, random, least = (mean_s(runs(mode, 1.5)) for mode in ("kv", "random", "least-loaded"))
    assert ("1.33", "0.39") == (f"{random:.2f}", f"{a:.2f}")
    assert ("3.4", "1.5") == (f"{random / a:.1f}", f"{least / a:.1f}")

    low, high = ([mean_s(runs(mode, load)) for mode in ("round-robin", "kv")] for load in (0.75, 2.2))
    assert ("0.43", "0.29", "1.5") == (f"{low[0]:.2f}", f"{low[1]:.2f}", f"{low[0] / low[1]:.1f}")
    assert "7.6" == f"{high[0] / high[1]:.1f}"

    kv, limited = runs("kv", 2.5), runs("round-robin", 2.5, queue_limit=2)
    assert ("2.9", "2.2") == (f"{p99_s(kv):.1f}", f"{p99_s(limited):.1f}")
    assert (0, "26%") == (max(run.dropped for run in kv), f"{np.mean([run.dropped for run in limited]):.0%}")

    few = [mean_s(runs(mode, 0.75, prefix_blocks=4)) for mode in ("kv", "round-robin")]
    assert ["0.92", "0.89"] == [f"{each:.2f}" for each in few]
    assert 0.3 < 1 - low[1] / low[0] < 0.36  # "with 32, KV-aware routing takes a third off"


# ---------------------------------------------------------------------------- 08.2


def test_the_solution_holds_on_seeds_that_are_not_asked() -> None:
    """And the default fails with each of them."""
    others = tuple(range(3, 9))

    assert max(measured(3.0, others).p99_s) < LIMIT_S < min(measured(1.0, others).p99_s)


def test_the_right_answer_says_both_spreads() -> None:
    """That of the credit, and that of the default: hardly any difference."""
    verdict = CREDIT.verdict((3, 1.06))

    assert "correct" == verdict.state
    default, more = (np.mean(measured(credit).spread) for credit in (1.0, 3.0))
    assert (
        f"the busiest worker gets {more:.2f} times its share; with the default it is {default:.2f}" in verdict.message
    )
    assert abs(default - more) < 0.03


@pytest.mark.parametrize("credit", [3, 4, 5.0, "np.float64(3)", "np.int64(5)"])
def test_any_credit_that_is_enough_passes(credit: Any) -> None:
    """Of any kind of number, with the spread that it leads to."""
    value = eval(credit, {"np": np}) if isinstance(credit, str) else credit

    verdict = CREDIT.verdict([value, np.mean(measured(float(value)).spread)])

    assert "correct" == verdict.state, verdict.message


@pytest.mark.parametrize(
    ("credit", "mistake"), [(1.5, "not with each seed"), (2, "not with each seed"), (0, "less credit")]
)
def test_one_lucky_seed_is_not_enough(credit: float, mistake: str) -> None:
    """A credit that is enough with one seed fails with another, and the three times are told."""
    times = measured(float(credit)).p99_s
    verdict = CREDIT.verdict((credit, 1.05))

    assert ("mistake", mistake) == (verdict.state, verdict.mistake)
    assert (min(times) < LIMIT_S < max(times)) == (mistake == "not with each seed")
    assert ", ".join(f"{time:.2f}" for time in times) in verdict.message


@pytest.mark.parametrize(
    ("spread", "state", "mistake"),
    [
        (106, "close", ""),
        (1.08, "close", ""),
        (1.04, "close", ""),
        (541, "mistake", "a count"),
        (1.1231, "mistake", "over the idlest"),
        (0.06, "mistake", "what is above"),
        (6, "mistake", "what is above"),
        (1.9, "mistake", "another spread"),
        (0, "mistake", "another spread"),
        (-1, "mistake", "another spread"),
    ],
)
def test_the_spread_is_judged_too(spread: float, state: str, mistake: str) -> None:
    """What it was divided by, in which unit, of which seeds."""
    verdict = CREDIT.verdict((3, spread))

    assert (state, mistake) == (verdict.state, verdict.mistake), verdict.message


def test_the_spread_of_a_single_seed_is_told_apart() -> None:
    """Each of the three is; their mean is right."""
    told = [CREDIT.verdict((3, spread)).mistake for spread in measured(3.0).spread if abs(spread - 1.057) > 0.006]

    assert told
    assert {"one seed"} == set(told)


@pytest.mark.parametrize(
    "answer", [3, (3,), "3, 1.06", (3, "1.06"), (True, 1.06), (float("nan"), 1), (float("inf"), 1), (-1, 1), (3, None)]
)
def test_what_is_no_pair_of_numbers_is_of_the_wrong_type(answer: Any) -> None:
    """Nothing raises."""
    assert "wrong type" == CREDIT.verdict(answer).state


@pytest.mark.parametrize(
    ("exercise", "name"), [(each, name) for each in EXERCISES for name in each.mistakes], ids=lambda v: str(v)[:24]
)
def test_a_foreseen_mistake_is_named(exercise: Exercise, name: str) -> None:
    """Each example gets its own hint."""
    verdict = exercise.verdict(answer_of(exercise, exercise.mistakes[name].example))

    assert ("mistake", name) == (verdict.state, verdict.mistake), verdict.message
    assert "{" not in verdict.message


def test_the_task_says_what_is_judged() -> None:
    """The load and the limit, as the notebook has them."""
    assert f"at load {LOAD:g} is below {LIMIT_S:g} s" in CREDIT.task


# ---------------------------------------------------------------------------- what was published


def test_the_claims_are_what_was_published() -> None:
    """Numbers and baselines, as their sources have them; none says at what share of its capacity it ran."""
    a, b, c, d = CLAIMS

    assert ("random", 3.0, None) == (a.baseline, a.times, a.ttft_s)
    assert ("round-robin", "18.6") == (b.baseline, f"{b.times:.1f}")
    assert (16.946, 4.541) == c.ttft_s
    assert c.dropped is not None
    assert 429 / 3000 == pytest.approx(c.dropped[1])
    assert d.times is not None
    assert d.times < 1
    assert all("load" in claim.missing for claim in CLAIMS)
    assert [True, True, False, False] == ["drops" in claim.missing for claim in CLAIMS]
