"""Each notebook runs from top to bottom, and once more, within its time; it leaves nothing, and it is well formed."""

from __future__ import annotations

import ast
import json
import re
from math import ceil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dynlab.lessons.exercises import EXERCISES
from dynlab.routing.modes import RouterMode
from tests.notebooks.running import NOTEBOOKS, ROOT, errors, execute, kernel, read

SECONDS = 20.0
"""What a notebook may compute when it runs, its kernel's start not counted."""
CODE_LINES, CODE_COLUMNS, CELLS, WORDS = 12, 100, 18, 500
WORDS_A_MINUTE = 180
CODE_CELL_MIN = 0.5
"""What a newcomer takes to read a code cell's few lines, to run it, and to look at what comes; guesses included."""
HOUR_MIN = 60

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def prose_of(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def words_of(notebook: Any) -> int:
    return len(re.findall(r"\S+", prose_of(notebook)))


def exercises_of(notebook: Any) -> dict[str, int]:
    """Return the minutes that each exercise states, by its number."""
    found = re.findall(r"^## Exercise (\d\d\.\d) · (\d+) minutes$", prose_of(notebook), re.MULTILINE)
    return {number: int(minutes) for number, minutes in found}


# ---------------------------------------------------------------------------- they run


@pytest.mark.notebook
@each
def test_it_runs_and_runs_again(path: Path) -> None:
    """From top to bottom, then each cell again in the same kernel: no error, in time, and no thread left.

    Every exercise says "not answered yet", and no output is a bare picture without a text that says the same.
    """
    notebook = read(path)
    with kernel(notebook) as client:
        cells = [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        for again in (False, True):
            begun = _computed_s(client)
            for n, cell in cells:
                client.execute_cell(cell, n)
            assert [] == errors(notebook), "second run" if again else "first run"
            assert _computed_s(client) - begun < SECONDS
            _check_outputs(notebook)
        (left,) = execute(
            client, "import threading\n[t.name for t in threading.enumerate() if t.name.startswith('dynlab-')]"
        )
    assert "[]" == left["data"]["text/plain"]


@pytest.mark.notebook
@each
def test_each_cell_can_run_twice_in_a_row(path: Path) -> None:
    """A reader who presses Run twice sees no error."""
    notebook = read(path)
    with kernel(notebook) as client:
        for n, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, n)
                client.execute_cell(cell, n)
        assert [] == errors(notebook)


def _computed_s(client: Any) -> float:
    """Ask the kernel for its processor time: on a clock, a notebook would be late whenever others run beside it."""
    (said,) = execute(client, "import time\ntime.process_time()")
    return float(said["data"]["text/plain"])


def _check_outputs(notebook: Any) -> None:
    shown = [output.data for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
             if output.output_type in ("display_data", "execute_result")]  # fmt: skip

    asked = set(re.findall(r'check\("(\d\d\.\d)"', "\n".join(code_of(notebook))))
    unanswered = {number for number in asked for data in shown if f"○ {number}: Not answered yet" in str(data)}
    assert asked == unanswered
    assert [] == [
        list(data) for data in shown if {"image/png", "image/svg+xml"} & set(data) and "text/html" not in data
    ]


# ---------------------------------------------------------------------------- they are well formed


@each
def test_it_is_committed_without_outputs(path: Path) -> None:
    """No output, no count, no metadata but the kernel's."""
    notebook = json.loads(path.read_text(encoding="utf-8"))

    for cell in notebook["cells"]:
        assert {} == cell["metadata"], cell["id"]
        if cell["cell_type"] == "code":
            assert ([], None) == (cell["outputs"], cell["execution_count"]), cell["id"]
    assert {"kernelspec", "language_info"} == set(notebook["metadata"])
    assert "python3" == notebook["metadata"]["kernelspec"]["name"]
    assert (4, 5) == (notebook["nbformat"], notebook["nbformat_minor"])


@each
def test_its_cells_have_names(path: Path) -> None:
    """Cell ids are words that stay: the number of the notebook, then what the cell is for."""
    notebook = read(path)
    nbformat.validate(notebook)

    ids = [cell.id for cell in notebook.cells]

    assert len(ids) == len(set(ids))
    assert [] == [name for name in ids if not re.fullmatch(rf"{path.stem[:2]}-[a-z0-9]+(-[a-z0-9]+)*", name)]


@each
def test_it_is_short(path: Path) -> None:
    """Few cells, short cells, few words, and no line of code that is cut in JupyterLab."""
    notebook = read(path)
    columns = max(len(line) for source in code_of(notebook) for line in source.splitlines())
    lines = {cell.id: len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code"}

    assert len(notebook.cells) <= CELLS
    assert {} == {name: count for name, count in lines.items() if count > CODE_LINES}
    assert columns <= CODE_COLUMNS
    assert words_of(notebook) <= WORDS


@each
def test_it_keeps_the_rhythm(path: Path) -> None:
    """Question, prediction, what happened, exercise, one line, terms: in this order; the last closes what serves."""
    notebook = read(path)
    prose = prose_of(notebook)
    parts = [f"# {path.stem[:2]} · ", "minutes.*", "**Question:", "## Predict", "## What happened", "## Exercise",
             "## In one line", "*Terms:"]  # fmt: skip

    places = [prose.find(part) for part in parts]

    assert -1 not in places, dict(zip(parts, places, strict=True))
    assert sorted(places) == places
    if any("serve(" in source for source in code_of(notebook)):
        assert "deployment.close()" in code_of(notebook)[-1]


@each
def test_its_prose_is_one_sentence_a_line(path: Path) -> None:
    """A change of one sentence is a change of one line."""
    lines = [
        line for line in prose_of(notebook=read(path)).splitlines() if not re.match(r"\d\. |\*\*\w+-?\w*\*\*", line)
    ]

    assert [] == [line for line in lines if re.search(r"[.!?]\*{0,2} [A-Z]", line)]


@each
def test_its_code_avoids_the_pitfalls(path: Path) -> None:
    """No shell, no magic that installs or picks a backend, no fixed port, no long sleep, no endless loop."""
    for source in code_of(read(path)):
        assert not re.search(r"^\s*[!%]", source, re.MULTILINE), source
        for node in ast.walk(ast.parse(source)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            keywords = {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}
            assert "port" not in keywords, source
            assert not isinstance(node, ast.While), source
            assert called not in ("time.sleep", "sleep", "asyncio.run", "nest_asyncio.apply"), source
            if called == "asyncio.sleep":
                assert ast.literal_eval(node.args[0]) <= 1, source  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------- they take no longer than they say


def minutes_of(notebook: Any) -> float:
    """Estimate a newcomer's time: words read, cells run and looked at, exercises as they state."""
    reading = words_of(notebook) / WORDS_A_MINUTE
    return reading + len(code_of(notebook)) * CODE_CELL_MIN + sum(exercises_of(notebook).values())


def test_the_first_four_take_a_newcomer_less_than_an_hour() -> None:
    """With every exercise."""
    assert sum(minutes_of(read(path)) for path in sorted(NOTEBOOKS)[:4]) < HOUR_MIN


def test_the_first_answer_comes_within_a_minute() -> None:
    """In 00 the graph answers in the first code cell, and little is read before it."""
    cells = read(NOTEBOOKS[0]).cells
    first = next(n for n, cell in enumerate(cells) if cell.cell_type == "code")

    assert "deployment.ask(" in cells[first].source
    assert sum(len(cell.source.split()) for cell in cells[:first]) / WORDS_A_MINUTE + CODE_CELL_MIN < 1


@each
def test_it_states_its_minutes(path: Path) -> None:
    """The estimate, rounded up, stands at its top and in notebooks/README.md."""
    notebook = read(path)
    table = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(rf"\({path.name}\) \|[^|]+\| (\d+) \|", table)

    assert f"\n*{ceil(minutes_of(notebook))} minutes.*\n" in prose_of(notebook)
    assert ceil(minutes_of(notebook)) == int(listed)


def test_every_exercise_stands_in_its_notebook() -> None:
    """With its minutes, and with its check."""
    stated = {number: path for path in NOTEBOOKS for number in exercises_of(read(path))}

    assert list(EXERCISES) == sorted(stated)
    for number, path in stated.items():
        assert path.name.startswith(number[:2])
        assert f'check("{number}"' in "\n".join(code_of(read(path)))


def test_the_path_names_every_notebook() -> None:
    """notebooks/README.md lists each notebook, in order, with its title and its question."""
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in NOTEBOOKS] == re.findall(r"\((\d\d_\w+\.ipynb)\)", text)
    for path in NOTEBOOKS:
        title, _, question = (line for line in prose_of(read(path)).splitlines()[:5] if line)
        asked = question.removeprefix("**Question: ").removesuffix("**")
        assert f"[{title.removeprefix('# ')}]({path.name}) | {asked[0].upper()}{asked[1:]} |" in text


def test_every_router_mode_has_its_flag_and_a_test() -> None:
    """notebooks/README.md spells each mode as a flag and as an argument; each link names a test of its file."""
    table = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8").partition("## The router modes")[2]
    row = r'^\| `([\w-]+)` \| `--router-mode ([\w-]+)`<br>`router_mode="([\w-]+)"` \| (.+) \|$'
    rows = {mode: rest for mode, *spelt, rest in re.findall(row, table, re.MULTILINE) if [mode] * 2 == spelt}
    links = re.findall(r"\[test\]\(\.\./(.+?\.py)(?: \"(\w+)\")?\)", table)

    assert {mode.value for mode in RouterMode} == set(rows)
    assert [] == [mode for mode, rest in rows.items() if "[test](" not in rest]
    assert table.count("[test](") == len(links)
    assert [] == [link for link in links if f"def {link[1]}(" not in (ROOT / link[0]).read_text(encoding="utf-8")]
