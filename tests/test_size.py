"""dynlab stays small enough to be read to the end."""

from __future__ import annotations

from pathlib import Path

TOTAL = 3_600
"""Lines of Python in the package, blank ones and docstrings included."""
FILE = 300
"""Lines of one file: one idea, read in one sitting."""

PACKAGE = Path(__file__).parents[1] / "dynlab"


def line_counts() -> dict[str, int]:
    return {
        path.relative_to(PACKAGE.parent).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }


def test_the_package_fits_its_budget() -> None:
    """The whole package is at most `TOTAL` lines."""
    counts = line_counts()

    total = sum(counts.values())

    largest = "\n".join(f"{count:6} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:10])
    assert total <= TOTAL, f"{total} lines, {total - TOTAL} over {TOTAL}: take something away.\n{largest}"


def test_each_file_is_one_sitting() -> None:
    """No file has more than `FILE` lines."""
    longer = {name: count for name, count in line_counts().items() if count > FILE}

    assert {} == longer, f"above {FILE} lines there are two ideas in a file; find the seam: {longer}"
