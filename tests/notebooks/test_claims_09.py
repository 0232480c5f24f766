"""What notebook 09 says holds with seeds that it does not use."""

from __future__ import annotations

import re

import pytest

from dynlab.routing.modes import RouterMode
from dynlab.runtime.discovery import LEASE_TTL_S
from dynlab.runtime.instances import INHIBITED_S
from tests.notebooks.running import NOTEBOOKS, errors, execute, kernel, read

(PATH,) = (path for path in NOTEBOOKS if path.stem == "09_break_it_then_write_your_own_router")

CHAOS = ("09-predict", "09-chaos", "09-slow", "09-kill-predict", "09-kill")
"""The cells whose seeds are the notebook's; the race has seeds of its own, and tests/lessons/test_race.py."""
CLAIMS = """
import numpy as np


def runs(mode, *changes, **more):
    return [simulate(loads[k], router_mode=mode, seed=k, changes=changes, **more) for k in seeds]


def bad_percent(run):
    return 100 * (1 - np.mean(run.ok & (run.ended_s - run.workload.arrival_s <= 1)))


# "busy for 60 % of it"
for load in loads.values():
    assert 0.56 < load.offered_load / 8 < 0.64
slowed = {mode: runs(mode, slow, well_again) for mode in guess_bad}
for mode, of_mode in slowed.items():
    for run in of_mode:
        at = run.workload.arrival_s
        share = np.mean(run.worker[(at > 42) & (at < 80)] == 3)
        if mode in ("round-robin", "random"):
            # "go on sending it an eighth, and what waits there is late, even when it is well again"
            assert 0.10 < share < 0.15, (mode, share)
            later = (run.worker == 3) & (at > 80)
            assert np.sum((run.ended_s - at)[later] > 1) > 20
            # "who looks at no load spends several" budgets
            assert bad_percent(run) > 3
        else:
            assert share < 0.09, (mode, share)  # "see its queue, and keep away"
            assert bad_percent(run) < 1
        assert run.ok.all()
# "a handful: what the worker had, or the next one, and one each after 45 and 50 s"
for mode in guess_bad:
    for run in runs(mode, killed, back):
        at = run.workload.arrival_s[~run.ok]
        had, later = at[at < 45], at[at >= 45]
        assert 3 <= len(at) <= 12, (mode, len(at))
        assert len(had) and (had.max() <= 42 or 1 == len(had) and had[0] < 43)
        assert 2 == len(later)  # "off the list when its lease of 10 s has run out": none at 55 s
        assert all(tick <= when < tick + 1.5 for when, tick in zip(later, (45, 50)))
# "migration_limit=1 sends a request whose worker died once more"
assert all(run.ok.all() for run in runs("least-loaded", killed, back, migration_limit=1))
"""


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 200, 300])
def test_what_it_says_is_so(seed: int) -> None:
    """The cells run with other seeds; then each claim is held against what they measured."""
    notebook = read(PATH)
    change = ("seeds = (7, 8, 9)", f"seeds = ({seed}, {seed + 1}, {seed + 2})")
    with kernel(notebook) as client:
        cells = {cell.id: (n, cell) for n, cell in enumerate(notebook.cells)}
        assert change[0] in cells["09-chaos"][1].source
        for name in CHAOS:
            n, cell = cells[name]
            cell.source = cell.source.replace(*change)
            client.execute_cell(cell, n)
        execute(client, CLAIMS)
    assert [] == errors(notebook)


def said_of_dynamo() -> str:
    (cell,) = (cell for cell in read(PATH).cells if cell.id == "09-dynamo")
    return str(cell.source)


def test_the_map_names_every_mode() -> None:
    """In the order in which it names Dynamo's; and the seconds are those of the code."""
    mode_row = next(line for line in said_of_dynamo().splitlines() if "`round-robin`" in line)

    ours, _, theirs = mode_row.partition("dynamo.llm.RouterMode")

    assert {mode.value for mode in RouterMode} == set(re.findall(r"`([a-z-]+)`", ours))
    assert 7 == len(re.findall(r"`(\w+)`", theirs))
    assert "tried again every 5 s" in said_of_dynamo()
    assert "the lease of 10 s" in said_of_dynamo()
    assert (5.0, 10.0) == (INHIBITED_S, LEASE_TTL_S)


@pytest.mark.needs_real_engine
def test_the_names_are_the_real_engines() -> None:
    """`dynamo.llm.RouterMode` has these members, and they stand beside the modes of the same meaning."""
    from dynamo.llm import RouterMode as Real

    mode_row = next(line for line in said_of_dynamo().splitlines() if "`round-robin`" in line)
    ours, _, theirs = mode_row.partition("dynamo.llm.RouterMode")
    named = re.findall(r"`(\w+)`", theirs)

    assert {name for name in dir(Real) if not name.startswith("_")} == set(named)
    for mode, name in zip(re.findall(r"`([a-z-]+)`", ours), named, strict=True):
        assert name.lower().removesuffix("choices") == mode.replace("-", ""), (mode, name)
