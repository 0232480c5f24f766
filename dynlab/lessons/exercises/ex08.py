"""Exercises of notebook 08: what a report leaves out, and a credit that holds p99 TTFT down, with what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from dynlab.engine import MockEngineArgs
from dynlab.lessons.exercise import Exercise, Finding, Mistake, shown, wrong
from dynlab.lessons.exercises.values import is_number
from dynlab.simulate import Run, prefix_families, simulate

__all__ = ("CHOICES", "EXERCISES", "LIMIT_S", "LOAD", "REPORTS", "SEEDS", "measured")

CHOICES = ("baseline", "load", "drops", "prefix share")


class Report(NamedTuple):
    """A report, the one of the four that it does not state, its own words for the others, and why that one matters."""

    text: str
    missing: str
    stated: Mapping[str, str]
    why: str

    def __str__(self) -> str:
        return fill(self.text, 92, subsequent_indent="   ")


REPORTS = {
    "A": Report(
        "7.5 prompts a second came to 4 workers that could just compute 5 without caches. 80 % of each prompt was its "
        "family's prefix, and each was answered. With KV-aware routing the mean TTFT fell from 1.33 s to 0.39 s.",
        "baseline",
        {"load": "7.5 prompts a second", "drops": "each was answered", "prefix share": "80 % of each prompt"},
        "against random it is 3.4 times, against least-loaded at the same load only 1.5",
    ),
    "B": Report(
        "Of 40 blocks of each prompt, 32 were its family's. We took round robin, then KV-aware routing, and turned "
        "nobody away: the mean TTFT fell from 0.43 s to 0.29 s, 1.5 times.",
        "load",
        {"baseline": "round robin", "drops": "turned nobody away", "prefix share": "32 of 40 blocks"},
        "1.5 times at load 0.75 is 7.6 times at load 2.2",
    ),
    "C": Report(
        "At load 2.5, with prompts of which four fifths are shared, KV-aware routing had a p99 TTFT of 2.9 s. "
        "We went back to round robin with another queue setting, and now have 2.2 s.",
        "drops",
        {"baseline": "round robin", "load": "load 2.5", "prefix share": "four fifths are shared"},
        "with that setting round robin dropped 26 % of the prompts, and KV-aware routing had dropped none",
    ),
    "D": Report(
        "KV-aware routing is of no use. At load 0.75 and without a single 503, the mean TTFT was 0.92 s, and with "
        "round robin it had been 0.89 s.",
        "prefix share",
        {"baseline": "round robin", "load": "load 0.75", "drops": "without a single 503"},
        "only 4 of 40 blocks were shared; with 32, KV-aware routing takes a third off",
    ),
}
"""Each is a run of the notebook's workers, 1,000 prompts with each of `SEEDS`."""

_RIGHT = tuple(report.missing for report in REPORTS.values())


def judge_missing(answer: Any) -> str:
    """One of the four words for each of the four reports."""
    if isinstance(answer, Mapping) and set(answer) == set(REPORTS):
        answer = [answer[name] for name in REPORTS]
    if not isinstance(answer, list | tuple) or len(answer) != len(REPORTS):
        raise Finding("wrong type", f"Give four words, one for each report; this is {shown(answer)}.")
    words = [word.strip().lower() if isinstance(word, str) else word for word in answer]
    for name, word in zip(REPORTS, words, strict=True):
        if word not in CHOICES:
            raise Finding("wrong type", f"{name}: {shown(word)} is none of {', '.join(map(repr, CHOICES))}.")
    off = [(name, str(word)) for name, word, right in zip(REPORTS, words, _RIGHT, strict=True) if word != right]
    if off:
        (name, word), *more = off
        words_of = REPORTS[name].stated[word]
        look = f"Look again at {', '.join(each for each, _ in off)}. " if more else ""
        wrong(f"{word} is stated", look=look, name=name, words=words_of)
    return " ".join(f"{name}, {report.missing}: {report.why}." for name, report in REPORTS.items())


SEEDS = (0, 1, 2)
LOAD = 2.2
LIMIT_S = 1.7
WORKER = MockEngineArgs(num_gpu_blocks=256, prefill_base_s=0, prefill_s_per_token=0.02 / 16)


class Measured(NamedTuple):
    """With each seed: p99 TTFT in seconds, the busiest worker's requests over the mean, and those requests."""

    p99_s: tuple[float, ...]
    spread: tuple[float, ...]
    busiest: tuple[int, ...]
    idlest: tuple[int, ...]


@lru_cache(maxsize=64)
def measured(credit: float, seeds: tuple[int, ...] = SEEDS) -> Measured:
    """Run the notebook's 2,000 prompts a seed under a credit."""
    runs = [_run(credit, seed) for seed in seeds]
    counts = [run.requests_per_worker for run in runs]
    return Measured(
        tuple(float(np.quantile(run.steady().ttft_s, 0.99)) for run in runs),
        tuple(float(each.max() / each.mean()) for each in counts),
        tuple(int(each.max()) for each in counts),
        tuple(int(each.min()) for each in counts),
    )


def _run(credit: float, seed: int) -> Run:
    prompts = prefix_families(2_000, rate=5 * LOAD, zipf=1.3, seed=seed)
    settings = {"overlap_score_credit": credit}
    return simulate(prompts, workers=4, engine=WORKER, router_mode="kv", seed=seed, kv=settings)


def judge_credit(answer: Any) -> str:
    """A credit that is enough with each seed, and the spread that it leads to."""
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        raise Finding("wrong type", f"Give two numbers, `(credit, spread)`; this is {shown(answer)}.")
    credit, spread = (_number(value, name) for value, name in zip(answer, ("credit", "spread"), strict=True))
    if credit < 0:
        raise Finding("wrong type", f"credit = {credit:g}: the router takes 0 or more.")
    got = measured(credit)
    times = ", ".join(f"{time:.2f}" for time in got.p99_s)
    if max(got.p99_s) >= LIMIT_S:
        if credit == 1:
            wrong("the default", times=times)
        if credit < 1:
            wrong("less credit", credit=f"{credit:g}", times=times)
        if min(got.p99_s) < LIMIT_S:
            wrong("not with each seed", credit=f"{credit:g}", times=times)
        raise Finding("mistake", f"With {credit:g} it is {times} s. Go on.")
    _judge_spread(spread, got)
    default = sum(measured(1.0).spread) / len(SEEDS)
    return (
        f"p99 TTFT is {times} s, and the busiest worker gets {spread:.2f} times its share; with the default it is "
        f"{default:.2f}. The cost counts the load as well, so more credit does not send all to one worker."
    )


def _number(value: Any, name: str) -> float:
    value = value.item() if isinstance(value, np.generic) else value
    if not is_number(value) or not isfinite(value):
        raise Finding("wrong type", f"`{name}` must be a number; this is {shown(value)}.")
    return float(value)


def _judge_spread(spread: float, got: Measured) -> None:
    mean, text = sum(got.spread) / len(got.spread), f"{spread:g}"
    if abs(spread - mean) <= 0.006:
        return
    if abs(spread - 100 * mean) <= 0.6:
        raise Finding("close", f"{text} is in percent. Give it as a ratio: 1 is an even share.")
    if any(abs(spread - other) <= 0.0006 for other in got.spread):
        wrong("one seed", got=text)
    if spread >= min(got.idlest):
        wrong("a count", got=text)
    if abs(spread - sum(a / b for a, b in zip(got.busiest, got.idlest, strict=True)) / len(SEEDS)) <= 0.006:
        wrong("over the idlest", got=text)
    if abs(spread - (mean - 1)) <= 0.006 or abs(spread - 100 * (mean - 1)) <= 0.6:
        wrong("what is above", got=text)
    if abs(spread - mean) <= 0.03:
        raise Finding("close", f"The spread is not {text}, but near. Is it the mean of the three seeds, rounded last?")
    wrong("another spread", got=text)


EXERCISES = (
    Exercise(
        number="08.1",
        task="Say for each report which it leaves out: 'baseline', 'load', 'drops' or 'prefix share'.",
        answer="missing",
        judge=judge_missing,
        hints=(
            "Tick off in each report what it states. The four are there in other words: who was it held against?",
            "A load is also a number of prompts a second for so many workers; a 503 is an answer that was not given.",
            (
                "A names no router of before. In B, how many came a second? C speaks of a queue: who was left outside? "
                "And in D, how much was there to find in a cache?"
            ),
        ),
        solution='missing = ("baseline", "load", "drops", "prefix share")\n',
        mistakes={
            "baseline is stated": Mistake(
                "{look}{name} states its baseline: '{words}'.", 'missing = ("baseline", "baseline", "drops", "load")'
            ),
            "load is stated": Mistake(
                "{look}{name} states its load: '{words}'.", 'missing = ("load", "load", "drops", "prefix share")'
            ),
            "drops is stated": Mistake(
                "{look}{name} tells of its drops: '{words}'.",
                'missing = ("baseline", "drops", "drops", "prefix share")',
            ),
            "prefix share is stated": Mistake(
                "{look}{name} states what prompts share: '{words}'.",
                'missing = ("baseline", "load", "prefix share", "drops")',
            ),
        },
    ),
    Exercise(
        number="08.2",
        task=f"Give `(credit, spread)`: an `overlap_score_credit` with which p99 TTFT at load {LOAD:g} is below "
        f"{LIMIT_S:g} s with each of the seeds, and the mean of the busiest worker's requests over the even share.",
        answer="found",
        judge=judge_credit,
        limit_s=30.0,
        hints=(
            "Run `kv` at the load with each seed, and look at all three p99s. Try 0 and 2: which way do they go?",
            "More credit is better here, up to about 3. Is it enough with each of the seeds?",
            (
                "For the spread divide `run.requests_per_worker.max()` by `run.requests_per_worker.mean()`, seed by "
                "seed, and take the mean."
            ),
        ),
        solution=(
            "credit = 3  # p99 TTFT 1.36, 1.18 and 1.51 s\n"
            "spread = 1.06  # mean of 1.08, 1.03 and 1.06\n"
            "found = credit, spread\n"
        ),
        mistakes={
            "the default": Mistake(
                "1 is the default: {times} s. Look at what less credit does, and more.", "found = 1, 1.06"
            ),
            "less credit": Mistake(
                "With {credit} it is {times} s. Less credit means more blocks to compute: go the other way.",
                "found = 0.5, 1.05",
            ),
            "not with each seed": Mistake(
                "With {credit} it is {times} s: enough with one seed, and not with another. One run proves little.",
                "found = 2, 1.05",
            ),
            "a count": Mistake(
                "{got} is a number of requests. Divide the busiest worker's by the mean of all four.", "found = 3, 541"
            ),
            "over the idlest": Mistake(
                "{got} is the busiest worker's requests over the idlest's. Divide by the mean of all four.",
                "found = 3, 1.1231",
            ),
            "what is above": Mistake(
                "{got} is what the busiest worker has above its share. Give all of it: 1 is an even share.",
                "found = 3, 0.06",
            ),
            "one seed": Mistake("{got} is the spread with one seed. Take the mean of the three.", "found = 3, 1.082"),
            "another spread": Mistake(
                "The credit is enough. But the spread with it is not {got}: `requests_per_worker`, its max over its "
                "mean, and of these the mean of the three seeds.",
                "found = 3, 1.9",
            ),
        },
    ),
)
