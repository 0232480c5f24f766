"""What every panel does, with a panel that has nothing of its own."""

from __future__ import annotations

import pytest

from dynlab.panels.panel import FRAME_BYTES, STATIC, Panel


def test_a_frame_is_shown_with_its_words() -> None:
    """A drawn frame and its words are what the page gets."""
    panel = Panel()

    panel.draw({"bars": [1, 2]}, "two bars")

    assert ({"bars": [1, 2]}, "two bars") == (panel.frame, panel.said)
    assert "<Panel: two bars>" == repr(panel)


def test_a_frame_that_is_too_heavy_is_refused() -> None:
    """Nothing of it is shown."""
    panel = Panel()

    with pytest.raises(ValueError, match=f"weighs .* bytes; at most {FRAME_BYTES}"):
        panel.draw({"text": "x" * FRAME_BYTES}, "heavy")
    assert ({}, "") == (panel.frame, panel.said)


def test_a_page_without_a_kernel_shows_the_still() -> None:
    """The words are escaped; the widget is there for pages that have one."""
    panel = Panel(said="1 < 2")

    data, _ = panel._repr_mimebundle_()

    assert '<div role="status">1 &lt; 2</div>' == data["text/html"]
    assert "<Panel: 1 < 2>" == data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: object) -> None:
    """No module names an address, imports another or evaluates text."""
    text = path.read_text("utf-8")  # type: ignore[attr-defined]

    assert [] == [
        word for word in ("http://", "https://", "import ", "import(", "eval(", "@import", "url(", "Function(")
        if word in text.replace("http://www.w3.org/2000/svg", "")
    ]  # fmt: skip
