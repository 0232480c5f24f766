"""`dynlab.routing.fleet`: the same rules as a look at every instance, found at once."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynlab.protocols import EndpointId, Envelope, Instance
from dynlab.routing.fleet import Fleet
from dynlab.routing.modes import DeviceAwareWeightedPicker, LeastLoadedPicker, Picker, RouterMode, make_picker

ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")
REQUEST = Envelope(ENDPOINT, "r", None)
STEPS = ("add", "release", "report")
CHI_SQUARE = {2: 10.8, 3: 13.8}
"""What the statistic of a fair draw among so many exceeds once in a thousand times."""


def instances(*loads: int, cuda: int = 0) -> list[Instance]:
    """Return instances with these loads, the first `cuda` of them accelerators."""
    return [
        Instance(ENDPOINT, 7001 + n, f"DummyWorker-{n + 1}", load, "cuda" if n < cuda else "cpu")
        for n, load in enumerate(loads)
    ]


def test_a_fleet_is_a_sequence_of_its_instances() -> None:
    """Its length, order, slices and search are those of a tuple, as the live graph gives to pick functions."""
    listed = instances(3, 1, 2)
    fleet = Fleet(listed)

    assert (3, listed, listed[-1], tuple(listed[1:])) == (len(fleet), list(fleet), fleet[-1], fleet[1:])
    assert listed[1] is min(fleet, key=lambda instance: instance.active_requests)
    assert (listed[2] in fleet, 2) == (True, fleet.index(listed[2]))


def test_the_least_loaded_are_known_after_each_change() -> None:
    """Requests come and go, and a report may change a load by any number."""
    fleet = Fleet(listed := instances(1, 1, 2))

    fleet.add(listed[0])
    assert (listed[1], 1) == fleet.least_loaded(random.Random(1))
    fleet.report(listed[1], 7)
    assert {listed[0], listed[2]} == {fleet.least_loaded(random.Random(seed))[0] for seed in range(20)}
    fleet.release(listed[2])
    assert (listed[2], 1) == fleet.least_loaded(random.Random(1))
    fleet.report(listed[1], 0)
    assert (listed[1], 1) == fleet.least_loaded(random.Random(1))
    assert [2, 0, 1] == [instance.active_requests for instance in listed]


@pytest.mark.parametrize("mode", [RouterMode.LEAST_LOADED, RouterMode.DEVICE_AWARE_WEIGHTED])
@pytest.mark.parametrize("cuda", [0, 2, 5])
def test_ties_are_drawn_uniformly_from_a_fleet_too(mode: RouterMode, cuda: int) -> None:
    """Three of five have the fewest requests of their kind: a chi-square test of 3,000 draws finds nothing."""
    loads = (9, 9, 1, 1, 1) if cuda != 5 else (1, 1, 1, 9, 9)
    listed = instances(*loads, cuda=cuda)
    for both in (listed, Fleet(listed)):
        picker = make_picker(mode, random.Random(11))

        counts = Counter(picker.pick(REQUEST, both).instance.instance_id for _ in range(3_000))

        expected = {instance.instance_id for instance in listed if instance.active_requests == 1}
        if mode is RouterMode.DEVICE_AWARE_WEIGHTED and cuda == 2:  # CPUs may have 18 * 3 // (8 * 2), and have 3
            expected = {7001, 7002}
        assert expected == set(counts)
        fair = 3_000 / len(expected)
        assert CHI_SQUARE[len(expected)] > sum((n - fair) ** 2 / fair for n in counts.values())


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.integers(0, 6),
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["add", "release", "report"]), st.integers(0, 9)), max_size=40
    ),
    st.sampled_from([LeastLoadedPicker, DeviceAwareWeightedPicker]),
)
def test_a_fleet_picks_among_the_same_as_a_look_at_each(
    loads: list[int], cuda: int, steps: list[tuple[int, str, int]], rule: type[LeastLoadedPicker]
) -> None:
    """After any changes: a look at every instance has the same ones tied, and finds nothing else to say."""
    listed = instances(*loads, cuda=cuda)
    fleet = Fleet(listed)
    for place, step, load in steps:
        instance = listed[place % len(listed)]
        if step == "report":
            fleet.report(instance, load)
        elif step == "add" or instance.active_requests:
            getattr(fleet, step)(instance)

    picker: Picker = rule(random.Random(1))
    picked, detail, _ = picker.pick(REQUEST, fleet)
    scanned = [rule(random.Random(seed)).pick(REQUEST, listed) for seed in range(30)]

    assert [detail] * 30 == [pick.detail for pick in scanned]
    same = [i for i in listed if (i.active_requests, i.device) == (picked.active_requests, picked.device)]
    if rule is LeastLoadedPicker or "device" not in detail:
        same = [i for i in listed if i.active_requests == picked.active_requests]
    assert detail["tied"] == len(same)
    assert {pick.instance.instance_id for pick in scanned} <= {instance.instance_id for instance in same}
    assert picked.active_requests == min(i.active_requests for i in listed if "device" not in detail or i in same)
