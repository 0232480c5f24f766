"""Elements that no name can break out of, and colours that show on a light page and on a dark one."""

from __future__ import annotations

import re
import time

import pytest

from dynlab.views.html import (
    BAD,
    BAR,
    GOOD,
    MUTED_OPACITY,
    PENDING,
    Box,
    Html,
    bar,
    clock_time,
    counted,
    duration,
    flow,
    framed,
    joined,
    mark,
    marked,
    milliseconds,
    muted,
    outcome_state,
    sign,
    striped,
    table,
    tag,
)

EVIL = "<script>alert('x')</script>\"&"
WHITE, DARK = "#FFFFFF", "#111111"  # JupyterLab's pages


def luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def over(ink: str, page: str, opacity: float) -> str:
    """Return the colour that is seen where ink of that opacity lies on a page."""
    parts = [(int(ink[n : n + 2], 16), int(page[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(opacity * one + (1 - opacity) * other):02X}" for one, other in parts)


def test_text_is_escaped_and_markup_is_not() -> None:
    """An element takes both; attributes are always text, and empty ones are left out."""
    made = tag("p", EVIL, tag("b", 7), aria_label=EVIL, style="")

    assert (
        '<p aria-label="&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;">'
        "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;<b>7</b></p>"
    ) == made
    assert isinstance(made, Html)


@pytest.mark.parametrize(
    "made",
    [
        joined([EVIL, EVIL], by=EVIL),
        muted(EVIL),
        marked(EVIL),
        marked("ok", EVIL),
        striped(EVIL, EVIL),
        bar(1, 2, EVIL),
        table([EVIL], [[("", [EVIL, EVIL])]]),
        flow(EVIL, [[Box(EVIL, (EVIL,), EVIL, EVIL)]]),
        framed(EVIL, EVIL),
    ],
    ids=["joined", "muted", "marked", "word", "striped", "bar", "table", "flow", "framed"],
)
def test_no_part_lets_a_name_through(made: Html) -> None:
    """Whatever is drawn of it."""
    assert "<script" not in made
    assert "&lt;script&gt;" in made


def test_parts_are_joined_without_gaps() -> None:
    """What is empty leaves no separator behind."""
    assert "a · <b>c</b>" == joined(["a", "", tag("b", "c")], by=" · ")


@pytest.mark.parametrize("page", [WHITE, DARK])
@pytest.mark.parametrize("colour", [BAD, BAR, GOOD, PENDING])
def test_marks_and_bars_stand_out_on_both_pages(colour: str, page: str) -> None:
    """By at least 3:1, as graphics have to."""
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize(
    ("ink", "page"), [("#212121", WHITE), ("#000000", WHITE), ("#E0E0E0", DARK), ("#FFFFFF", DARK)]
)
def test_a_low_voice_can_be_read(ink: str, page: str) -> None:
    """At least 4.5:1, as text has to."""
    assert contrast(over(ink, page, MUTED_OPACITY), page) >= 4.5


def test_states_differ_in_shape_too() -> None:
    """No two marks of instances, and no two ends of requests, look alike without colour."""
    for states in (("serving", "starting", "draining", "dead", "closed"), ("ok", "failed", "stopped", "under way")):
        signs = [re.sub("<[^>]*>", "", mark(state)) for state in states]

        assert len(states) == len(set(signs))


def test_a_state_nobody_knows_has_a_mark() -> None:
    """A newer one."""
    assert ("?", "? odd", "? odd") == (mark("odd"), marked("odd"), sign("odd"))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("ok", "ok"), ("stopped", "stopped"), ("running", "under way"), ("NoInstancesError", "failed")],
)
def test_an_outcome_is_one_of_four(outcome: str, state: str) -> None:
    """Every error's name is a failure."""
    assert state == outcome_state(outcome)


@pytest.mark.parametrize(("value", "most", "width"), [(1, 4, "25%"), (9, 4, "100%"), (4, 4, "100%")])
def test_a_bar_is_as_long_as_its_part(value: float, most: float, width: str) -> None:
    """And its number stands after it."""
    drawn = bar(value, most, value)

    assert f"height:100%;width:{width}" in drawn
    assert drawn.endswith(f" {value}")


def test_where_all_is_nothing_there_is_no_bar() -> None:
    """Nor one for a 0 among others: only its track."""
    assert "0" == bar(0, 0, 0)
    assert 1 == bar(0, 5, 0).count("<span")


def test_a_table_has_names_for_rows_and_columns() -> None:
    """A line starts each group."""
    made = table(["a", "b"], [[("", [1, 2]), ("opacity:0.5", [3, 4])], [("", [5, 6])]])

    assert (2, 3, 3) == (made.count('scope="col"'), made.count('scope="row"'), made.count("<td"))
    assert 2 * 2 == made.count("border-top:1px")
    assert 2 == made.count("opacity:0.5")


def test_a_way_says_itself_and_has_an_arrow_between_stops() -> None:
    """Empty columns are left out."""
    made = flow("from a to b", [[Box("a", arrow=False)], [], [Box("b", ("its load",), "above", "below"), Box("c")]])

    assert 'role="img" aria-label="from a to b"' in made
    assert 2 == made.count("▶")
    assert made.index("above") < made.index("below") < made.index("<b>b</b>") < made.index("its load")


def test_numbers_have_their_units() -> None:
    """In the one that suits them, and with what can be told apart."""
    assert ("1 request", "2 requests", "0 boxes") == (
        counted(1, "request"),
        counted(2, "request"),
        counted(0, "box", "boxes"),
    )
    assert ["0 s", "119 s", "2 min", "2 h", "3 d"] == [duration(s) for s in (-1, 119, 120, 7200, 259_200)]
    assert ["0.28 ms", "12.3 ms", "1286 ms"] == [milliseconds(ms) for ms in (0.28, 12.34, 1286.28)]
    assert "14:05:11" == clock_time(time.mktime((2025, 11, 24, 14, 5, 11, 0, 0, -1)))
