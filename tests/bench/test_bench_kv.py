"""The KV benchmark runs, and names all its figures; how fast anything is, it says itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_kv


@pytest.mark.needs_real_engine
def test_the_kv_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short round writes a figure of each kind for both; their answers are compared before."""
    file = tmp_path / "kv.json"

    bench_kv.main(["--quick", "--json", str(file)])

    written = json.loads(file.read_text(encoding="utf-8"))
    figures = {name: figure for table in written["tables"].values() for name, figure in table.items()}
    assert ["hash_256", "shared_8x16", "spread_8x16", "forks_8x16", "tokens_8x16", "hashes_8x16"] == list(figures)
    assert [] == [name for name, figure in figures.items() if not all(n > 0 for n in figure["medians"].values())]
    assert "1.6.1" == written["about"]["wheel"]
    assert "dynlab/wheel" in capsys.readouterr().out
