"""What the README shows is what happens."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from dynlab import serve
from dynlab.hello_world import Frontend
from dynlab.routing.modes import RouterMode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_the_cell_does_what_its_comments_say() -> None:
    """The one cell runs from top to bottom, and `ask` returns the list that is written below it."""
    cell, _ = (text for language, text in BLOCKS if language == "python")
    (written,) = [ast.literal_eval(line[2:]) for line in cell.splitlines() if line.startswith("# [")]
    names: dict[str, Any] = {}
    values = {}
    try:
        for step in ast.parse(cell).body:
            source = ast.unparse(step)
            if isinstance(step, ast.Expr):
                values[source] = eval(source, names)
            else:
                exec(source, names)
    finally:
        if "deployment" in names:
            names["deployment"].close()

    assert written == values["deployment.ask('test prompt str', request_id='r-1')"]
    assert "Processor" in repr(values["deployment.explain('r-1')"])
    assert "each got 200" in values["deployment.ask_many(800).traces.plot_routing()"].label


def test_the_simulated_runs_are_those_below_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """The second cell prints the lines that are written below it."""
    (place,) = [n for n, (_, text) in enumerate(BLOCKS) if "import exponential" in text]
    exec(BLOCKS[place][1], {})

    assert BLOCKS[place + 1][1] == capsys.readouterr().out


def test_the_curl_line_gets_the_answer_below_it() -> None:
    """Its headers and body, sent to the graph that the line above serves, bring back what is shown."""
    texts = [text for _, text in BLOCKS]
    (place,) = [n for n, text in enumerate(texts) if text.startswith("curl ")]
    words = shlex.split(texts[place])
    headers = dict(words[n + 1].split(": ") for n, word in enumerate(words) if word == "-H")
    body = json.loads(words[words.index("-d") + 1])
    with serve(Frontend, workers={"DummyWorker": 4}) as deployment:
        url = f"{deployment.url}/fegenerate"
        answer = httpx.post(url, json=body, headers=headers)
        plain = httpx.post(url, json=body)

    assert "dynlab serve dynlab.hello_world:Frontend --port 3000 --workers DummyWorker=4\n" == texts[place - 1]
    assert texts[place + 1].strip() == answer.text.strip()
    assert plain.text.startswith('Response: {"worker_output":')


def test_every_file_it_leads_to_is_there() -> None:
    """Links, the picture, and the files that are named."""
    names = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"`((?:tests|notebooks)/[\w./]+)`", README)

    assert [] == [name for name in names if not (ROOT / name).exists()]
    assert {"notebooks/images/routing.svg", "tests/test_parity.py"} <= set(names)


def test_it_lists_every_lesson_and_every_mode() -> None:
    """The tables have a row for each notebook, and for each router mode."""
    lessons = re.findall(r"^\| \[(\w+)\]", README, re.MULTILINE)
    modes = re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE)

    assert sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb")) == lessons
    assert {mode.value for mode in RouterMode} == set(modes)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))))
def test_every_make_target_exists(target: str) -> None:
    """Nobody is sent to a target that is not there."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
