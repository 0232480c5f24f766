"""dynlab stays small enough to be read to the end."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOMS = {
    "": 1_850,
    "engine": 400,
    "kv": 430,
    "lessons": 760,
    "panels": 1_200,
    "routing": 900,
    "runtime": 2_100,
    "sdk": 960,
    "serving": 2_000,
    "simulate": 1_320,
    "views": 3_100,
}
"""Lines of code in each room, and in the files outside of them: neither blank, nor comment, nor docstring, nor the
exercises' answers. A reader takes the rooms one by one; what grows past its number needs a room of its own."""
FILE = 300
"""Lines of one file, all of them: one idea, read in one sitting."""

PACKAGE = Path(__file__).parents[1] / "dynlab"


def sources() -> dict[str, str]:
    return {
        path.relative_to(PACKAGE.parent).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if "_notebooks" not in path.parts
    }


def code_lines(source: str) -> int:
    """Count the lines that hold code."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        1
        for number, line in enumerate(source.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#") and number not in docstrings
    )


def test_code_lines_leave_out_what_explains() -> None:
    """Docstrings, comments and blank lines are not counted: explaining costs nothing."""
    source = '"""Room."""\n\n# why\nx = 1\n"""About x."""\n\n\ndef f():\n    """Do."""\n    return x  # it\n'

    assert 3 == code_lines(source)


def test_each_room_fits_its_budget() -> None:
    """No room has more than its number of lines of code, and none is without a number."""
    counts: Counter[str] = Counter()
    for name, source in sources().items():
        if "/exercises/" not in name:
            _, *room, _ = name.split("/")
            counts["/".join(room[:1])] += code_lines(source)

    over = {room: f"{count}, not {ROOMS.get(room, 0)}" for room, count in counts.items() if count > ROOMS.get(room, 0)}

    assert {} == over, "take something away"
    assert set(ROOMS) == set(counts)


def test_each_file_is_one_sitting() -> None:
    """No file has more than `FILE` lines."""
    longer = {name: len(source.splitlines()) for name, source in sources().items()}
    longer = {name: count for name, count in longer.items() if count > FILE}

    assert {} == longer, f"above {FILE} lines there are two ideas in a file; find the seam: {longer}"
