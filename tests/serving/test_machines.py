"""The multi-node hello world over three machines with etcd, as its author ran it (examples/multinode, May 2025)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.machines import Machines, first_scenario, machines, second_scenario

pytestmark = [
    pytest.mark.needs_real_engine,
    pytest.mark.needs_programs("ip", "unshare", "etcd"),
    pytest.mark.slow,
]
PATIENCE_S = 40.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    if os.geteuid() or not shutil.which("etcd"):
        pytest.skip("network namespaces need root")
    with machines(tmp_path_factory.mktemp("machines")) as found:
        yield found


def answered_by(three: Machines, count: int, name: str) -> list[str]:
    return [three.who(f"{name}_{n}") for n in range(count)]


def until_all_answer(three: Machines, names: set[str]) -> list[str]:
    """Ask until the last answers came from exactly these machines; return all."""
    seen: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while set(seen[-4:]) != names or len(seen) < 4:
        assert time.monotonic() < deadline, f"answers came from {seen}"
        seen.append(three.who(f"until_{len(seen)}"))
    return seen


def test_the_machines_answer_in_turn_and_one_that_joins_is_used(three: Machines) -> None:
    """One worker: it answers all. Two and round robin: their host names in turn, as the blog shows it."""
    assert ["node2"] * 4 == first_scenario(three)

    turns = second_scenario(three)

    assert {"node2", "node3"} == set(turns)
    assert turns[:2] == turns[2:]


def test_a_machine_that_is_cut_off_is_routed_around_and_comes_back(three: Machines) -> None:
    """It costs one request, which waits in vain for five seconds; then all go elsewhere, until the wire is back."""
    three[3].cut_off()
    around = answered_by(three, 10, "cut")
    three[3].cut_off(False)

    assert sum(who != "node2" for who in around) <= 2
    until_all_answer(three, {"node2", "node3"})


def test_a_machine_that_dies_costs_at_most_what_dynamo_says(three: Machines) -> None:
    """At most three errors until discovery has forgotten it; what joins in its place is used."""
    three[3].crash()
    after = answered_by(three, 30, "dead")

    assert sum(who != "node2" for who in after) <= 3  # it is tried again every 5 s

    three[3].serve("dynlab.hello_world:DummyWorker")
    until_all_answer(three, {"node2", "node3"})
