"""A pick function against all router modes: live ids only, fair runs, a table that adds up, and named mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any

import numpy as np
import pytest

from dynlab.errors import ConfigError
from dynlab.lessons.exercises.ex09 import EXERCISES
from dynlab.lessons.race import BASELINE, GOLD, SEEDS, Race, race
from dynlab.lessons.scenarios import SCENARIOS, WORKERS
from dynlab.lessons.watched import TIES, Watched, remarks_on
from dynlab.protocols import EndpointId, Envelope, Instance
from dynlab.routing.modes import RouterMode
from dynlab.simulate import Kill, Slow

NAMES = [scenario.name for scenario in SCENARIOS]
SHORT: dict[str, Any] = {"seeds": (1, 2), "requests": 600}
ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")
REQUEST = Envelope(ENDPOINT, "1", '{"family": 3}')


def by_lot(seed: int = 1) -> Callable[..., Any]:
    rng = Random(seed)

    def lot(request: Any, instances: Sequence[Instance]) -> Instance:
        return rng.choice(instances)

    return lot


def least(request: Any, instances: Sequence[Instance]) -> Instance:
    return min(instances, key=lambda instance: instance.active_requests)


RNG = Random(1)


def drawn_least(request: Any, instances: Sequence[Instance]) -> int:
    return min(instances, key=lambda i: (i.active_requests, RNG.random())).instance_id


def turns() -> Callable[..., Any]:
    turn = count()
    return lambda request, instances: instances[next(turn) % len(instances)]


def gold() -> Any:
    cell: dict[str, Any] = {}
    exec(EXERCISES[1].solution, cell)
    return cell["pick"]


# ---------------------------------------------------------------------------- the scenarios


def test_a_seed_draws_the_same_requests_for_every_router() -> None:
    """Arrivals and service times, or prompts, are those of the seed; another seed has others."""
    for scenario in SCENARIOS:
        one, other, elsewhere = (
            scenario.run(mode, seed, 300) for mode, seed in (("random", 5), (least, 5), (least, 6))
        )

        assert np.array_equal(one.workload.arrival_s, other.workload.arrival_s)
        assert np.array_equal(one.workload.service_s, other.workload.service_s)
        assert list(one.workload.sequences) == list(other.workload.sequences)
        assert not np.array_equal(one.workload.arrival_s, elsewhere.workload.arrival_s)
        assert WORKERS == one.workers


def test_every_mode_is_raced_where_it_can_be() -> None:
    """All seven of Dynamo's with prompts, and all but "kv" without."""
    modes = {mode.value for mode in RouterMode}

    assert [modes - {"kv"}] * 4 + [modes] == [set(scenario.modes) for scenario in SCENARIOS]


def test_something_happens_to_one_worker_for_a_third_of_the_time() -> None:
    """It is slower, or gone, from a third of the time to two thirds; elsewhere nothing happens."""
    changes = {scenario.name: scenario.changes(10.0, 4) for scenario in SCENARIOS}

    assert (Slow(10.0, 4, 0.25), Slow(20.0, 4, 1.0)) == changes["one slow"]
    assert Kill(10.0, 4) == changes["one killed"][0]
    assert [()] * 3 == [changes[name] for name in ("steady", "giants", "hot prefix")]


def test_the_seed_says_who_is_hit() -> None:
    """Over twenty seeds more than half of the workers."""
    killed = next(scenario for scenario in SCENARIOS if scenario.name == "one killed")

    runs = [killed.run("round-robin", seed, 600) for seed in range(20)]

    assert len({int(run.worker[~run.ok][0]) for run in runs if run.dropped}) > 4


def test_a_prefix_is_hot() -> None:
    """Nearly half of the prompts begin alike."""
    hot = SCENARIOS[-1].run("random", 3, 6000).workload.family

    assert 0.4 < float((hot == 0).mean()) < 0.55


def test_alike_devices_make_the_device_aware_mode_least_loaded() -> None:
    """The race runs that rule once, for both names."""
    for scenario in SCENARIOS:
        one, other = (scenario.run(mode, 4, 400) for mode in ("device-aware-weighted", "least-loaded"))
        assert np.array_equal(one.worker, other.worker), scenario.name


# ---------------------------------------------------------------------------- the race


def test_the_table_has_all_routers_and_scenarios() -> None:
    """Its own row first, then the modes by how far they fall behind at worst; "kv" last, which has one number."""
    result = race(least, **SHORT)
    table = result.table()

    assert ["p99 in s", *NAMES, "at worst, times the best", "no answer"] == table.header
    assert "→ least()" == table.rows[0][0]
    assert {mode.value for mode in RouterMode} == {row[0] for row in table.rows[1:]}
    assert ["kv", "-", "-", "-", "-"] == table.rows[-1][:5]
    behind = [float(row[6]) for row in table.rows[1:-1]]
    assert sorted(behind) == behind


def test_p99_is_over_all_that_were_sent() -> None:
    """The nearest rank over all seeds, and who got no answer waits forever."""
    killed = next(scenario for scenario in SCENARIOS if scenario.name == "one killed")
    result = race(least, **SHORT)
    times, lost = [], 0
    for seed in SHORT["seeds"]:
        run = killed.run("round-robin", seed, 600)
        times += np.where(run.ok, run.ended_s - run.workload.arrival_s, np.inf).tolist()
        lost += int((~run.ok).sum())

    assert sorted(times)[math.ceil(0.99 * 1200) - 1] == result.p99_s["round-robin"]["one killed"]
    assert 0 < lost == result.lost["round-robin"]


def test_it_is_the_same_race_again() -> None:
    """The function routes the same requests, and what the modes did is remembered; only the time differs."""
    one, other = race(least, **SHORT), race(least, **SHORT)

    assert one.p99_s == other.p99_s
    assert one.lost == other.lost


def test_round_robin_of_ones_own_does_not_pass() -> None:
    """It has the very numbers of the mode where nobody comes or goes, and a pass is to be better."""
    result = race(turns(), **SHORT)

    for name in ("steady", "one slow", "giants", "hot prefix"):
        assert result.p99_s[BASELINE][name] == result.p99_s[result.name][name]
        assert name in result.not_beaten
    assert not result.passed
    assert not result.gold


def test_to_pass_and_to_be_gold_are_two_things() -> None:
    """Made-up numbers: below round robin everywhere, and up to 5 % above the best everywhere."""

    def with_own(factor: float, best: float = 1.0) -> Race:
        modes = {"round-robin": dict.fromkeys(NAMES, 2.0), "least-loaded": dict.fromkeys(NAMES, best)}
        own = {**dict.fromkeys(NAMES[:-1], factor), NAMES[-1]: 1.0}
        return Race("mine()", None, (1,), 100, p99_s={"mine()": own, **modes})

    passed = {factor: (with_own(factor).passed, with_own(factor).gold) for factor in (0.5, 1.05, 1.06, 1.99, 2.0)}

    assert 1.05 == GOLD
    assert {
        0.5: (True, True),
        1.05: (True, True),
        1.06: (True, False),
        1.99: (True, False),
        2.0: (False, False),
    } == passed
    assert with_own(0.5).finding.startswith("Gold: it beats round-robin in all 5 scenarios")
    assert "Not within 5 % of the best yet: steady (1.06 s, least-loaded 1.00 s)" in with_own(1.06).finding
    assert with_own(math.inf).finding.startswith(
        "Not passed: it does not beat round-robin in steady (never, round-robin 2.00 s)"
    )


def test_it_can_be_read_in_text_and_in_html() -> None:
    """Both have the finding, every number, n, the seeds, and how long a decision took."""
    result = race(by_lot(), **SHORT)
    text, html = repr(result), result._repr_html_()

    for shown in (text, html):
        assert all(str(value) in shown for row in result.table().rows for value in row)
        assert "n = 2 seeds of 600 requests (200 in hot prefix), seeds 1, 2" in shown
        assert "A decision took " in shown
        assert result.finding in shown
    assert 'role="group" aria-label="lot(): Not passed: ' in html
    assert "<code>active_requests</code>" in html
    assert 1 == len({len(line) for line in text.splitlines() if line.startswith(("→", *(m.value for m in RouterMode)))})


def test_a_decision_takes_time() -> None:
    """It is told, and nothing depends on it."""
    assert 0 < race(least, **SHORT).decision_us < math.inf
    assert math.isnan(race(None).decision_us)


def test_lanes_are_drawn_of_the_same_requests() -> None:
    """Its own, and those of the best mode of that scenario."""
    result = race(by_lot(), **SHORT)

    picture = result.plot_lanes("hot prefix", requests=90)

    best = result.best("hot prefix")
    assert "under lot() and " in picture.label
    assert f" under {best}, of " in picture.label
    assert {"lot()": 30, best: 30} == {
        name: sum(row[2] for row in picture.table.rows if row[0] == name) for name in ("lot()", best)
    }


def test_lanes_that_cannot_be_drawn_are_told_why() -> None:
    """A scenario that there is not, and a function that cannot route."""
    with pytest.raises(ConfigError, match="no scenario 'one late'; there are steady, one slow, one killed"):
        race(least, **SHORT).plot_lanes("one late")
    with pytest.raises(ConfigError, match=r"There are no lanes to draw. .* a place in the list"):
        race(lambda request, instances: 0, **SHORT).plot_lanes()


# ---------------------------------------------------------------------------- what is wrong with a function


@pytest.mark.parametrize(
    ("pick", "name", "said"),
    [
        (lambda request, instances: 2, "returns a place", "Return `instances[2]`, or an id: "),
        (lambda request, instances: None if request else 1, "returns nothing", "returned None"),
        (lambda request, instances: "7001", "returns something else", "returned '7001'"),
        (lambda request, instances: True, "returns something else", "returned True"),
        (lambda request, instances: 5, "returns a place", "a place in the list"),
        (lambda request, instances: 999_999, "remembers who is gone", "999999, which is not there"),
        (lambda request, instances: instances[8], "raises", "raised IndexError"),
        (lambda request, instances: instances.sort(), "raises", "'tuple' object has no attribute 'sort'"),
        (lambda request, instances: exit(1), "raises", "raised SystemExit"),
        (lambda request: request, "no function", "It is called as"),
        (7001, "no function", "not a function"),
        (None, "empty", "Nothing to race yet"),
        (..., "empty", "Nothing to race yet"),
    ],
)  # fmt: skip
def test_a_fault_ends_the_race_with_a_sentence(pick: Any, name: str, said: str) -> None:
    """Nothing is raised, there is no table, and the sentence is shown."""
    result = race(pick, **SHORT)

    assert result.fault is not None
    assert name == result.fault.name
    assert said in repr(result)
    assert result.fault.said == result.finding
    assert {} == result.p99_s
    assert not result.passed
    assert "<table" not in result._repr_html_()


def test_an_empty_function_is_not_raced() -> None:
    """The frame that the notebook gives."""

    def pick(request: Any, instances: Any) -> None: ...

    assert "pick(): Nothing to race yet: the function has no body." == repr(race(pick))


def test_ids_are_new_in_each_run() -> None:
    """So what a function keeps by id begins anew, as after a restart; within a run an instance stays one object."""
    seen: dict[int, set[int]] = {}

    def spies(request: Any, instances: Sequence[Instance]) -> Instance:
        for instance in instances:
            seen.setdefault(instance.instance_id, set()).add(id(instance))
        return least(request, instances)

    race(spies, seeds=(1, 2), requests=60)

    assert WORKERS * len(SCENARIOS) * 2 == len(seen)
    assert {1} == {len(objects) for objects in seen.values()}


def test_a_killed_worker_is_not_among_the_instances() -> None:
    """A function that insists on all ids it has seen in a run is told that one is gone."""
    known: dict[str, Instance] = {}

    def insists(request: Any, instances: Sequence[Instance]) -> Instance:
        known.update({instance.worker: instance for instance in instances if instance.worker not in known})
        if instances[0].instance_id != known["DummyWorker-1"].instance_id and len(instances) == WORKERS:
            known.clear()  # another run
            known.update({instance.worker: instance for instance in instances})
        return min(known.values(), key=lambda instance: instance.active_requests)

    result = race(insists, **SHORT)

    assert result.fault is not None
    assert "remembers who is gone" == result.fault.name
    assert 'In "one killed" it returned' in result.fault.said


def watched(pick: Any) -> Watched:
    return Watched(pick, "steady")


def instances(*loads: int) -> list[Instance]:
    return [Instance(ENDPOINT, 7001 + n, f"DummyWorker-{n + 1}", load) for n, load in enumerate(loads)]


def test_what_a_function_writes_into_the_loads_reaches_nobody() -> None:
    """It has copies, and it is found out at its first pick."""
    given = instances(2, 1, 3)

    def books(request: Any, instances: Sequence[Instance]) -> Instance:
        best = least(request, instances)
        best.active_requests += 1
        return best

    result = race(books, **SHORT)
    with pytest.raises(Exception, match="keep numbers of your own"):
        watched(books)(REQUEST, given)

    assert result.fault is not None
    assert "changes the instances" == result.fault.name
    assert [2, 1, 3] == [instance.active_requests for instance in given]


def test_an_id_and_an_instance_are_the_same_pick() -> None:
    """Both lead to the instance of the run, whose id the function never saw."""
    given = instances(2, 1, 3)

    by_object, by_id = watched(least), watched(lambda request, instances: least(request, instances).instance_id)

    assert given[1] is by_object(REQUEST, given) is by_id(REQUEST, given)


@pytest.mark.parametrize(
    ("pick", "name"),
    [
        (lambda request, instances: instances[0], "always the same worker"),
        (lambda request, instances: instances[-1].instance_id, "always the same worker"),
        (by_lot(), "ignores the load"),
        (least, "ties go to the first"),
    ],
    ids=["the first", "the last", "by lot", "least without a draw"],
)
def test_a_remark_has_a_name(pick: Any, name: str) -> None:
    """What a function looked at is told from its picks, pass or not."""
    result = race(pick, **SHORT)

    assert [name] == [remark.name for remark in result.remarks]
    assert result.remarks[0].said in repr(result)


@pytest.mark.parametrize("pick", [drawn_least, gold()], ids=["least with a draw", "the solution"])
def test_who_looks_and_draws_gets_no_remark(pick: Any) -> None:
    """Also two choices look at the load."""
    assert () == race(pick, **SHORT).remarks


def test_two_choices_and_the_busier_of_two_are_told_apart() -> None:
    """Of two that are drawn, one rule takes the emptier, the other the busier."""
    rng = Random(3)

    def two(request: Any, instances: Sequence[Instance], choose: Callable[..., Any] = min) -> Any:
        return choose(rng.sample(instances, min(2, len(instances))), key=lambda i: i.active_requests)

    def busier(request: Any, instances: Sequence[Instance]) -> Any:
        return two(request, instances, max)

    assert () == race(two, **SHORT).remarks
    assert ["prefers the busy"] == [remark.name for remark in race(busier, **SHORT).remarks]


def test_a_family_with_one_home_is_too_hot() -> None:
    """Without prompts it is least-loaded; with the hot prefix one worker gets nearly half."""

    def homes(request: Any, instances: Sequence[Instance]) -> Instance:
        family = request.data["family"]
        return least(request, instances) if family < 0 else instances[family % len(instances)]

    result = race(homes, seeds=(1, 2), requests=1500)

    assert ["one home for all of a family"] == [remark.name for remark in result.remarks]
    assert ["hot prefix"] == result.not_beaten


def test_few_ties_are_no_remark() -> None:
    """A rule that draws may take the first a few times in a row."""
    few = watched(least)
    for _ in range(TIES):
        few(REQUEST, instances(1, 1, 2))
        few(REQUEST, instances(2, 3, 0))

    assert () == remarks_on([few])
    few(REQUEST, instances(1, 1, 2))
    assert ["ties go to the first"] == [remark.name for remark in remarks_on([few])]


# ---------------------------------------------------------------------------- the claims, on unseen seeds


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [SEEDS, (7101, 7102, 7103, 7104), (7201, 7202, 7203, 7204)])
def test_who_passes_does_so_whatever_the_seeds(seeds: tuple[int, ...]) -> None:
    """Two choices and least-loaded pass and are not gold, the solution is; lots and turns do not pass."""
    rng = Random(1)

    def two(request: Any, instances: Sequence[Instance]) -> Instance:
        return min(rng.sample(instances, min(2, len(instances))), key=lambda i: i.active_requests)

    results = [race(pick, seeds=seeds) for pick in (two, least, drawn_least, gold(), by_lot(), turns())]

    assert [True] * 4 + [False] * 2 == [result.passed for result in results]
    assert [False] * 3 + [True] + [False] * 2 == [result.gold for result in results], results[3].finding
    assert ["hot prefix"] == results[2].not_gold
    assert ["least-loaded"] * 4 + ["kv"] == [results[0].best(name) for name in NAMES]
