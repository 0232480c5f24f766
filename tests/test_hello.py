"""`dynlab hello`: what it says, what it draws, and that it notices when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynlab import hello as room
from dynlab.errors import DynlabError
from dynlab.hello import hello
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve


def table(said: list[str]) -> dict[str, list[int]]:
    """Read the routing table back: `{mode: counts}`."""
    return {line.split()[0]: [int(n) for n in line.split()[1:-1]] for line in said if line.endswith("%")}


def test_every_mode_is_run_counted_and_drawn(tmp_path: Path) -> None:
    """Round robin is even, direct goes to one, nothing is lost, and the picture is where it is said to be."""
    said: list[str] = []

    assert hello(40, 4, 7, 0, tmp_path / "out.svg", said.append), said

    counts = table(said)
    assert [10, 10, 10, 10] == counts["round-robin"]
    assert [40, 0, 0, 0] == counts["direct"]
    assert {"round-robin", "random", "power-of-two", "least-loaded", "direct"} == counts.keys()
    assert {40} == {sum(row) for row in counts.values()}
    assert any('"worker_output":"prompt 0_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"' in line for line in said)
    assert f"\nThe picture of it: {(tmp_path / 'out.svg').resolve()}" == said[-1]
    assert "Requests per DummyWorker by least-loaded" in (tmp_path / "out.svg").read_text()


def test_the_same_seed_spreads_random_the_same(tmp_path: Path) -> None:
    """Two runs agree about random; another seed does not."""
    rows = []
    for seed in (7, 7, 8):
        said: list[str] = []
        hello(60, 4, seed, 0, tmp_path / "out.svg", said.append)
        rows.append(table(said)["random"])

    assert rows[0] == rows[1] != rows[2]


def test_a_failed_request_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies costs a request: it is named, and the result is False."""

    def serve_one_dead(*args: Any, **kwargs: Any) -> Deployment:
        deployment = serve(*args, **kwargs)
        deployment.kill("DummyWorker", 0)
        return deployment

    monkeypatch.setattr(room, "serve", serve_one_dead)
    said: list[str] = []

    assert not hello(20, 2, 7, 0, tmp_path / "out.svg", said.append)
    assert any(line.startswith("WRONG: round-robin: b1-") and "the worker is dead" in line for line in said), said


def test_many_workers_fit_the_line(tmp_path: Path) -> None:
    """Of more workers than fit, the first are shown, and the share is still that of the busiest of all."""
    said: list[str] = []

    hello(40, 20, 7, 0, tmp_path / "out.svg", said.append)

    (row,) = [line for line in said if line.startswith("round-robin  ") and line.endswith("%")]
    assert ["round-robin", *["2"] * 12, "...", "5.0%"] == row.split()


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """The system's reason is given, and what to do."""
    with pytest.raises(DynlabError, match=r"cannot be written to .*No such file.* Name another file with --picture"):
        hello(4, 2, 7, 0, tmp_path / "gone" / "out.svg", lambda _: None)
