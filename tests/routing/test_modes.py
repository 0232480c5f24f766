"""`dynlab.routing.modes`: the rule of each picker, exactly where it is exact and by chi-square where it draws lots."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynlab.errors import ConfigError, InstanceNotFoundError, PickError
from dynlab.protocols import EndpointId, Envelope, Instance, to_wire
from dynlab.routing.modes import (
    CustomPicker,
    DeviceAwareWeightedPicker,
    DirectPicker,
    LeastLoadedPicker,
    Picker,
    PowerOfTwoPicker,
    RandomPicker,
    RoundRobinPicker,
    RouterMode,
    make_picker,
    parse_router_mode,
)

ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")
REQUEST = Envelope(ENDPOINT, "r-1", to_wire({"prompt": "test"}))
LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


def instances(*loads: int) -> list[Instance]:
    """Make one instance per load, with ids from 7001."""
    return [Instance(ENDPOINT, 7001 + n, f"DummyWorker-{n + 1}", load) for n, load in enumerate(loads)]


def picked(picker: Picker, among: Sequence[Instance], times: int = 1) -> list[int]:
    return [picker.pick(REQUEST, among).instance.instance_id for _ in range(times)]


def assert_uniform(drawn: Iterable[object], kinds: int) -> None:
    """Claim that all `kinds` outcomes are equally likely: chi-square below the 0.1 % point."""
    # The 99.9 % quantile of chi-square for 1 to 7 degrees of freedom.
    limit = (10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32)[kinds - 2]
    counts = Counter(drawn)
    expected = counts.total() / kinds
    missing = kinds - len(counts)

    assert sum((n - expected) ** 2 / expected for n in counts.values()) + missing * expected < limit, counts


# ---------------------------------------------------------------------------- round robin


def test_round_robin_takes_each_in_turn() -> None:
    """Ids in ascending order from the first, then again from the first."""
    assert [7001, 7002, 7003, 7001, 7002, 7003, 7001] == picked(RoundRobinPicker(), instances(0, 0, 0), 7)


def test_round_robin_does_not_look_at_loads() -> None:
    """A busy instance gets its turn like any other."""
    assert [7001, 7002, 7003] == picked(RoundRobinPicker(), instances(9, 0, 5), 3)


def test_round_robin_counts_on_when_workers_join_and_leave() -> None:
    """After four picks among four a fifth joins: Dynamo's turns are 4, 0, 1, 2 of the new list, and so are ours."""
    picker = RoundRobinPicker()

    assert [7001, 7002, 7003, 7004] == picked(picker, instances(0, 0, 0, 0), 4)
    assert [7005, 7001, 7002] == picked(picker, instances(0, 0, 0, 0, 0), 3)
    assert [7002, 7001] == picked(picker, instances(0, 0), 2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=50))
def test_round_robin_is_the_turn_modulo_the_length(lengths: list[int]) -> None:
    """The n-th pick is `ids[n % len(ids)]` of whatever list there is then, and the detail names the turn."""
    picker = RoundRobinPicker()

    picks = [picker.pick(REQUEST, instances(*[0] * length)) for length in lengths]

    assert [7001 + n % length for n, length in enumerate(lengths)] == [pick.instance.instance_id for pick in picks]
    assert [{"turn": n} for n in range(len(lengths))] == [pick.detail for pick in picks]


def test_each_round_robin_has_a_turn_of_its_own() -> None:
    """A second picker begins with the first instance."""
    one, other = RoundRobinPicker(), RoundRobinPicker()
    picked(one, instances(0, 0, 0), 2)

    assert [7001] == picked(other, instances(0, 0, 0))


# ---------------------------------------------------------------------------- random


def test_random_is_uniform() -> None:
    """Over five instances of unequal load each is equally likely."""
    assert_uniform(picked(RandomPicker(random.Random(7)), instances(0, 9, 1, 0, 4), 10_000), 5)


def test_random_draws_do_not_depend_on_each_other() -> None:
    """Of two successive draws among two instances, all four outcomes are equally likely."""
    draws = picked(RandomPicker(random.Random(8)), instances(0, 0), 6_000)

    assert_uniform(zip(draws[::2], draws[1::2], strict=True), 4)


# ---------------------------------------------------------------------------- power of two


def sampled(picker: Picker, among: Sequence[Instance], times: int) -> list[tuple[int, int, int]]:
    """Pick, and return (first, second, chosen) of each pick."""
    picks = [picker.pick(REQUEST, among) for _ in range(times)]
    return [(*pick.detail["sampled"], pick.instance.instance_id) for pick in picks]


def test_power_of_two_never_compares_a_worker_with_itself() -> None:
    """The two are distinct, and all ordered pairs are equally likely."""
    samples = sampled(PowerOfTwoPicker(random.Random(7)), instances(0, 0, 0), 6_000)

    assert [] == [sample for sample in samples if sample[0] == sample[1]]
    assert_uniform(((first, second) for first, second, _ in samples), 6)


@given(LOADS.filter(lambda loads: len(loads) > 1), st.integers())
def test_power_of_two_prefers_fewer_in_flight_and_the_first_on_a_tie(loads: list[int], seed: int) -> None:
    """The second of the two wins only if it has strictly fewer requests in flight."""
    for first, second, chosen in sampled(PowerOfTwoPicker(random.Random(seed)), instances(*loads), 20):
        better = loads[second - 7001] < loads[first - 7001]
        assert (second if better else first) == chosen


def test_power_of_two_is_uniform_where_loads_are_equal() -> None:
    """The first of the two is drawn uniformly, so ties favour nobody."""
    samples = sampled(PowerOfTwoPicker(random.Random(7)), instances(2, 2, 2, 2), 8_000)

    assert_uniform((chosen for _, _, chosen in samples), 4)


def test_power_of_two_never_picks_the_strictly_busiest() -> None:
    """Whoever it is compared with has fewer in flight."""
    assert 7002 not in picked(PowerOfTwoPicker(random.Random(7)), instances(0, 3, 1, 2), 1_000)


def test_power_of_two_of_one_is_that_one() -> None:
    """A single instance needs no comparison."""
    assert [(7001, 7001)] == [
        (pick.instance.instance_id, *pick.detail["sampled"])
        for pick in [PowerOfTwoPicker(random.Random(7)).pick(REQUEST, instances(3))]
    ]


# ---------------------------------------------------------------------------- least loaded


@given(LOADS, st.integers())
def test_least_loaded_has_the_fewest_in_flight(loads: list[int], seed: int) -> None:
    """The pick is among those with the minimum, and the detail says how many they are."""
    pick = LeastLoadedPicker(random.Random(seed)).pick(REQUEST, instances(*loads))

    assert min(loads) == pick.instance.active_requests
    assert {"tied": loads.count(min(loads))} == pick.detail


def test_least_loaded_breaks_ties_uniformly() -> None:
    """Of three that share the minimum each is equally likely, wherever they stand in the list."""
    assert_uniform(picked(LeastLoadedPicker(random.Random(7)), instances(1, 5, 1, 2, 1), 6_000), 3)


# ---------------------------------------------------------------------------- direct


def test_direct_is_the_named_instance() -> None:
    """An id picks that instance, however busy."""
    assert [7002, 7002] == picked(DirectPicker(7002), instances(0, 9, 0), 2)


def test_direct_without_a_name_is_the_lowest_id() -> None:
    """As a router mode, `direct` sends everything to one worker: the first."""
    assert [7001, 7001] == picked(DirectPicker(), instances(9, 0, 0), 2)


def test_direct_to_a_stranger_names_those_who_exist() -> None:
    """An unknown id raises Dynamo's sentence, and lists the ids."""
    with pytest.raises(
        InstanceNotFoundError,
        match="instance_id=12345 not found for endpoint dynamo-demo/DummyWorker/begenerate; available: 7001, 7002",
    ):
        DirectPicker(12345).pick(REQUEST, instances(0, 0))


# ---------------------------------------------------------------------------- a reader's own


def by_prompt(request: Envelope, among: Sequence[Instance]) -> Instance:
    return among[len(request.data["prompt"]) % len(among)]


def test_a_readers_function_sees_the_request_and_the_instances() -> None:
    """It chooses by what it likes; its name is the mode."""
    picker = CustomPicker(by_prompt)

    assert [7002] == picked(picker, instances(0, 0, 0))
    assert "by_prompt" == picker.mode


def test_a_readers_function_may_return_the_id() -> None:
    """The id of an instance is as good as the instance."""
    assert [7003] == picked(CustomPicker(lambda request, among: among[2].instance_id), instances(0, 0, 0))


def test_a_callable_object_is_named_by_its_class() -> None:
    """A router with state of its own is an object with `__call__`."""

    class Sticky:
        def __call__(self, request: Envelope, among: Sequence[Instance]) -> Instance:
            return among[0]

    assert "Sticky" == CustomPicker(Sticky()).mode


@pytest.mark.parametrize(
    "wrong",
    [None, 12345, True, "7001", 7001.0, Instance(ENDPOINT, 7001, "DummyWorker-1")],
    ids=["None", "unknown id", "bool", "str", "float", "another instance of that id"],
)
def test_what_is_none_of_the_instances_is_refused(wrong: object) -> None:
    """A forgotten `return`, an unknown id, an object from elsewhere: the sentence shows what was returned."""
    with pytest.raises(PickError, match=r"it must return one of the instances it was given: 7001, 7002\.") as caught:
        CustomPicker(lambda request, among: wrong).pick(REQUEST, instances(0, 0))  # type: ignore[arg-type,return-value]

    assert wrong is caught.value.picked


def test_an_error_in_a_readers_function_is_the_readers() -> None:
    """What the function raises comes out as it is."""
    with pytest.raises(ZeroDivisionError):
        CustomPicker(lambda request, among: among[1 // 0]).pick(REQUEST, instances(0))


# ---------------------------------------------------------------------------- devices


def devices(*kinds_and_loads: tuple[str, int]) -> list[Instance]:
    return [
        Instance(REQUEST.endpoint, 7001 + n, f"W-{n}", load, device) for n, (device, load) in enumerate(kinds_and_loads)
    ]


@pytest.mark.parametrize(
    ("among", "chosen"),
    [
        ([("cpu", 0), ("cuda", 7)], 7002),
        ([("cpu", 0), ("cuda", 8)], 7001),
        ([("cpu", 1), ("cuda", 15)], 7002),
        ([("cpu", 1), ("cuda", 16)], 7001),
        ([("cpu", 0), ("cuda", 8), ("cuda", 7)], 7003),
        ([("cpu", 1), ("cpu", 0), ("cuda", 8)], 7002),
        ([("cpu", 2), ("cpu", 1)], 7002),
        ([("cuda", 2), ("cuda", 3)], 7001),
    ],
    ids=repr,
)
def test_cpus_are_sent_what_accelerators_have_too_much_of(among: list[tuple[str, int]], chosen: int) -> None:
    """A CPU gets a request when each accelerator has eight times what each CPU would have then."""
    pick = DeviceAwareWeightedPicker(random.Random(7)).pick(REQUEST, devices(*among))

    assert chosen == pick.instance.instance_id


def test_the_ratio_may_be_another() -> None:
    """With a ratio of 1 the second of two requests goes to the CPU."""
    picker = DeviceAwareWeightedPicker(random.Random(7), ratio=1)

    assert 7001 == picker.pick(REQUEST, devices(("cuda", 0), ("cpu", 0))).instance.instance_id
    assert 7002 == picker.pick(REQUEST, devices(("cuda", 1), ("cpu", 0))).instance.instance_id


# ---------------------------------------------------------------------------- by name


@pytest.mark.parametrize("mode", sorted(set(RouterMode) - {RouterMode.KV}), ids=lambda mode: mode.value)
def test_each_mode_has_its_picker(mode: RouterMode) -> None:
    """A picker goes by the name of its mode."""
    assert mode.value == make_picker(mode, random.Random(7)).mode


def test_the_kv_mode_needs_a_runtime() -> None:
    """A picker without caches to look at would be a lie."""
    with pytest.raises(ValueError, match=r"take LocalRuntime\.kv_picker\(endpoint\)"):
        make_picker(RouterMode.KV, random.Random(7))


def test_a_function_is_its_own_picker() -> None:
    """`make_picker` wraps a reader's function."""
    assert "by_prompt" == make_picker(by_prompt, random.Random(7)).mode


@pytest.mark.parametrize("mode", [RouterMode.RANDOM, RouterMode.POWER_OF_TWO, RouterMode.LEAST_LOADED])
def test_equal_seeds_pick_equally(mode: RouterMode) -> None:
    """Two pickers of one seed make the same hundred picks; another seed makes others."""
    among = instances(0, 0, 0, 0)
    first, again, other = (picked(make_picker(mode, random.Random(seed)), among, 100) for seed in (7, 7, 8))

    assert first == again
    assert first != other


@pytest.mark.parametrize("mode", RouterMode, ids=lambda mode: mode.value)
def test_a_mode_may_be_spelt_in_any_way(mode: RouterMode) -> None:
    """The mode itself, "round-robin" as on the command line, "round_robin" as the method, "RoundRobin" as in Rust."""
    words = mode.value.split("-")

    spellings = [mode, "-".join(words), "_".join(words), "".join(word.capitalize() for word in words)]

    assert [mode] * 4 == [parse_router_mode(spelling) for spelling in spellings]


def test_a_function_is_a_router() -> None:
    """A pick function is passed through."""
    assert by_prompt is parse_router_mode(by_prompt)


def test_a_misspelt_mode_is_met_with_the_modes() -> None:
    """The sentence lists the modes and the closest one."""
    with pytest.raises(
        ConfigError,
        match=r"router_mode='round-robbin' is no router mode; the modes are round-robin, random, power-of-two, "
        r"kv, direct, least-loaded, device-aware-weighted, or give a function pick\(request, instances\)\. "
        r"Did you mean 'round-robin'\?",
    ):
        parse_router_mode("round-robbin")


@pytest.mark.parametrize("spec", ["", "qq", None, 3])
def test_a_stranger_is_no_mode(spec: object) -> None:
    """What is neither a mode nor a function is refused, with no guess where nothing is close."""
    with pytest.raises(ConfigError, match=r"is no router mode; .* instances\)\.$"):
        parse_router_mode(spec)  # type: ignore[arg-type]
