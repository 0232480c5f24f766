"""A picture's words."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from dynlab.views.figure import MAX_ROWS, Picture, Table
from dynlab.views.plots import new_axes


def picture(label: str = "All is even.", rows: int = 2) -> Picture:
    axes = new_axes()
    axes.plot([1, 2])
    return Picture(axes.figure, label, Table(("a", "b"), [(n, n * n) for n in range(rows)]))


def test_the_html_carries_picture_sentence_and_table() -> None:
    """Alt text, caption and numbers come with the drawing, as one HTML figure."""
    html = picture()._repr_html_()

    assert '<img role="img" alt="All is even."' in html
    assert "<figcaption>All is even.</figcaption>" in html
    assert "<details><summary>The numbers</summary><table>" in html
    assert "<tr><td>1</td><td>1</td></tr>" in html
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    assert b"</svg>" in base64.b64decode(data.group(1))


def test_words_are_not_markup() -> None:
    """A worker named like a tag stays a word."""
    html = picture('a <b> "c"')._repr_html_()

    assert "a &lt;b&gt; &quot;c&quot;" in html
    assert "<b>" not in html


def test_a_long_table_says_what_it_leaves_out() -> None:
    """At most so many rows are shown; the rest is counted."""
    html = Table(("n",), [(n,) for n in range(MAX_ROWS + 5)]).html()

    assert MAX_ROWS + 2 == html.count("<tr>")
    assert "… and 5 more rows" in html


def test_the_same_data_gives_the_same_text() -> None:
    """No dates and no random ids: a committed picture changes when its data does."""
    assert picture().svg() == picture().svg()


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_it_saves_by_suffix(name: str, begins: bytes, tmp_path: Path) -> None:
    """PNG, SVG and PDF are written, and the path comes back."""
    saved = picture().save(tmp_path / name)

    assert tmp_path / name == saved
    assert saved.read_bytes().startswith(begins)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    """The sentence names those there are; nothing is written."""
    with pytest.raises(ValueError, match=r"a.gif: a picture is saved as .png, .svg or .pdf, not '.gif'"):
        picture().save(tmp_path / "a.gif")
    assert [] == list(tmp_path.iterdir())


def test_in_a_terminal_it_is_its_sentence() -> None:
    """Where no picture can be shown, the finding is said."""
    assert "<Picture: All is even.>" == repr(picture())
