"""What the benchmarks share: measure in turn, compare medians, hold them against an aim, print, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

__all__ = ("Aim", "Figure", "Runs", "Table", "about", "add_options", "measured", "only", "write")

Measure: TypeAlias = Callable[[str], Mapping[str, float]]
"""Measures one subject once; returns figures by name."""
Runs: TypeAlias = Mapping[str, Sequence[Mapping[str, float]]]
"""What was measured: per subject one mapping a round, in the order of the rounds."""


@dataclass(frozen=True)
class Aim:
    """A bound on a subject's median, or on a ratio where two subjects are named, as in "graph/one"."""

    of: str
    bound: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.of} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """One row of a table. Figures that one measuring yields share its `measure`, which then runs once for all."""

    unit: str
    more_is_better: bool
    measure: Measure
    aim: Aim | None = None


@dataclass(frozen=True)
class Table:
    """Figures of some subjects; each of `pairs` is (this one's median, divided by that one's)."""

    name: str
    subjects: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    figures: Mapping[str, Figure]

    def result(self, runs: Runs) -> dict[str, dict[str, Any]]:
        """Work out, per figure, what `write` writes."""
        return {name: self._figure(name, figure, runs) for name, figure in self.figures.items()}

    def _figure(self, name: str, figure: Figure, runs: Runs) -> dict[str, Any]:
        values = {subject: [run[name] for run in runs[subject]] for subject in self.subjects}
        medians = {subject: median(values[subject]) for subject in self.subjects}
        ratios = {f"{a}/{b}": medians[a] / medians[b] for a, b in self.pairs}
        by_round = {f"{a}/{b}": [x / y for x, y in zip(values[a], values[b], strict=True)] for a, b in self.pairs}
        found: dict[str, Any] = {"unit": figure.unit, "more_is_better": figure.more_is_better, "runs": values}
        found |= {"medians": medians, "ratios": ratios, "ratios_by_round": by_round}
        if figure.aim is not None:
            value = (medians | ratios)[figure.aim.of]
            found["aim"] = {"text": str(figure.aim), "value": value, "met": figure.aim.met_by(value)}
        return found

    def text(self, result: Mapping[str, Mapping[str, Any]]) -> str:
        """Draw the table: medians and, in brackets, the least and the greatest of the rounds; then the aims."""
        ratios = [f"{a}/{b}" for a, b in self.pairs]
        rows = [[self.name, *self.subjects, *ratios]]
        remarks = [""]
        for name, found in result.items():
            cells = [_cell(found["medians"][subject], found["runs"][subject]) for subject in self.subjects]
            cells += [_cell(found["ratios"][ratio], found["ratios_by_round"][ratio]) for ratio in ratios]
            rows.append([f"{name}, {found['unit']} ({'+' if found['more_is_better'] else '-'})", *cells])
            aim = found.get("aim")
            remarks.append("" if aim is None else f"{aim['text']}: {'met' if aim['met'] else 'not met'}")
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for (label, *cells), remark in zip(rows, remarks, strict=True):
            right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([label.ljust(widths[0]), *right, remark]).rstrip())
        return "\n".join(lines)


def measured(tables: Sequence[Table], rounds: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Measure every subject of every table once a round; returns the runs by table.

    One measuring goes over all subjects before the next begins, so a drift of the machine's speed hits all alike;
    and who comes first changes from round to round.
    """
    runs = {
        table.name: {subject: [dict[str, float]() for _ in range(rounds)] for subject in table.subjects}
        for table in tables
    }
    for number in range(rounds):
        for table in tables:
            for measure in dict.fromkeys(figure.measure for figure in table.figures.values()):
                for subject in rotated(table.subjects, number):
                    runs[table.name][subject][number].update(measure(subject))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return runs


def rotated(subjects: Sequence[str], by: int) -> tuple[str, ...]:
    """Begin with another subject: the same circle, entered `by` places further on."""
    by %= len(subjects)
    return (*subjects[by:], *subjects[:by])


def only(tables: Iterable[Table], names: Sequence[str]) -> list[Table]:
    """Keep the named figures, and the tables that have any; without names, all.

    Raises:
        SystemExit: if there is no such figure; it says which there are.
    """
    tables = list(tables)
    known = list(dict.fromkeys(name for table in tables for name in table.figures))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no figure {', '.join(unknown)}; there are: {', '.join(known)}.")
    if not names:
        return tables
    kept = (replace(t, figures={name: f for name, f in t.figures.items() if name in names}) for t in tables)
    return [table for table in kept if table.figures]


def about(**settings: Any) -> dict[str, Any]:
    """Say on what the figures were taken: figures move from machine to machine, and with the versions."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
    }
    found["load_before"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found["versions"] = {name: _version(name) for name in ("fastapi", "httptools", "pydantic", "uvicorn", "uvloop")}
    return found | settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks have."""
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that all runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write runs, medians and ratios there")
    parser.add_argument("--only", default="", metavar="FIGURE,...", help="measure only these figures")


def write(
    tables: Sequence[Table], runs: Mapping[str, Runs], setting: Mapping[str, Any], file: Path | None
) -> dict[str, Any]:
    """Print the tables, and write what they were made of to `file`."""
    results = {table.name: table.result(runs[table.name]) for table in tables}
    for table in tables:
        print(f"\n{table.text(results[table.name])}")
    whole = {"about": dict(setting), "tables": results}
    if file is not None:
        file.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return whole


def _cell(middle: float, values: Sequence[float]) -> str:
    spread = f" ({_number(min(values))}-{_number(max(values))})" if len(values) > 1 else ""
    return _number(middle) + spread


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
