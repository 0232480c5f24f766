"""The simulator's benchmark runs, and names all its figures; how fast anything is, it says itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_simulate


def test_the_simulators_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short round writes a figure for each mode and for KV, and SimPy ends every request when dynlab does."""
    file, trace = tmp_path / "simulate.json", tmp_path / "trace.jsonl"
    line = {"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]}
    trace.write_text(json.dumps(line) + "\n", encoding="utf-8")

    bench_simulate.main(["--quick", "--json", str(file), "--trace", str(trace)])

    written = json.loads(file.read_text(encoding="utf-8"))
    figures = {name: figure for table in written["tables"].values() for name, figure in table.items()}
    modes = ["round-robin", "random", "power-of-two", "direct", "least-loaded", "device-aware-weighted"]
    expected = [name for mode in modes for name in (mode, f"{mode}_cpu")]
    assert [*expected, "memory", "chats", "chats_cpu", "trace", "trace_cpu", "in_turn_8"] == list(figures)
    assert [] == [name for name, figure in figures.items() if not all(n > 0 for n in figure["medians"].values())]
    assert "trace.jsonl" == written["about"]["trace"]
    assert "dynlab/simpy" in capsys.readouterr().out
