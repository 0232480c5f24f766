"""dynlab stays small enough to be read to the end."""

from __future__ import annotations

import ast
from pathlib import Path

TOTAL = 8_700
"""Lines of code in the package: neither blank, nor comment, nor docstring, nor the exercises' answers."""
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


def test_the_package_fits_its_budget() -> None:
    """The whole package has at most `TOTAL` lines of code."""
    counts = {name: code_lines(source) for name, source in sources().items() if "/exercises/" not in name}

    total = sum(counts.values())

    largest = "\n".join(f"{count:6} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:10])
    assert total <= TOTAL, f"{total} lines, {total - TOTAL} over {TOTAL}: take something away.\n{largest}"


def test_each_file_is_one_sitting() -> None:
    """No file has more than `FILE` lines."""
    longer = {name: len(source.splitlines()) for name, source in sources().items()}
    longer = {name: count for name, count in longer.items() if count > FILE}

    assert {} == longer, f"above {FILE} lines there are two ideas in a file; find the seam: {longer}"
