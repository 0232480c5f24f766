"""Score cards: bars as long as the terms, from hand-made picks and from a graph that runs."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes

from dynlab.hello_world import Frontend
from dynlab.serving.serve import serve
from dynlab.views.explanation import Explanation
from dynlab.views.pictures import score_card_picture
from dynlab.views.score_card import MAX_ROWS, plot_score_card
from dynlab.views.traces import Trace
from tests.views.conftest import flaws, hop_of, kv_decision

DOCUMENTED = kv_decision([2, 5, 8], [10, 5, 9])


def bars(ax: Axes) -> list[tuple[float, float]]:
    return [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in ax.patches]


def test_what_is_saved_lies_left_of_zero_and_the_cost_right_of_it() -> None:
    """Credit backwards and hatched, then what is left to prefill, then decode; the bar ends at the cost."""
    ax = plot_score_card(DOCUMENTED)

    assert [(-2, 0), (0, 8), (8, 18), (-5, 0), (0, 5), (5, 10), (-8, 0), (0, 2), (2, 11)] == bars(ax)
    assert {"//////"} == {bar.get_hatch() for bar in ax.patches if bar.get_x() < 0}
    assert ["2", "8", "10", " 18", "5", "5", "5", " 10", "8", "2", "9", " 11"] == [text.get_text() for text in ax.texts]
    assert "prompt of 10 full blocks · n = 3 workers" in ax.get_xlabel()


def test_the_winner_is_marked_by_arrow_and_bold() -> None:
    """At its name and at its total; nobody else is."""
    ax = plot_score_card(DOCUMENTED)

    assert ["DummyWorker-0", "→ DummyWorker-1", "DummyWorker-2"] == [label.get_text() for label in ax.get_yticklabels()]
    assert ["normal", "bold", "normal"] == [label.get_fontweight() for label in ax.get_yticklabels()]
    assert [" 10"] == [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"]
    assert ax.get_title(loc="left").replace("\n", " ").startswith("DummyWorker-1 wins with 10, though DummyWorker-2")


def test_parts_that_occur_are_named_and_told_apart_without_colour() -> None:
    """In the order in which they stand; each has a texture or a darkness of its own."""
    made = kv_decision([2, 5, 8], [10, 5, 9], prefill=[32, 0, 320], requests=[0, 1, 5], weight=2)
    plain, weighted = (plot_score_card(decision).get_legend() for decision in (DOCUMENTED, made))
    assert plain is not None
    assert weighted is not None

    assert ["saved by the cache", "this prompt's prefill", "decode"] == [text.get_text() for text in plain.get_texts()]
    assert ["queued prefill", "decode", "requests"] == [text.get_text() for text in weighted.get_texts()][2:]
    hatches = [patch.get_hatch() for patch in weighted.get_patches()]
    assert 4 == len(set(hatches))  # the two solid ones are told apart by their place and their darkness


def test_of_many_workers_sixteen_are_drawn() -> None:
    """And the note says what is missing."""
    ax = plot_score_card(kv_decision([0] * 64, list(range(64)), chosen=63))

    assert MAX_ROWS == len(ax.get_yticks())
    assert "→ DummyWorker-63" == ax.get_yticklabels()[-1].get_text()
    assert "n = 64 workers, 48 of them not drawn: cost 25 to 72" in ax.get_xlabel()


@pytest.mark.parametrize("workers", [1, 3, 8, 16])
def test_nothing_is_cut_off(workers: int) -> None:
    """All words lie inside the picture, and not on each other."""
    cached, decode = [n % 11 for n in range(workers)], [7 * n % 40 for n in range(workers)]
    made = kv_decision(cached, decode, prefill=[100 + 7 * n for n in range(workers)], requests=cached, weight=0.5)

    assert [] == flaws(plot_score_card(made))


def test_the_picture_says_it_in_words() -> None:
    """The finding, what the winner's cost is made of, and all numbers."""
    picture = score_card_picture(DOCUMENTED)

    assert picture.label.endswith(
        "(8 of 10 blocks). On DummyWorker-1, 5 of the prompt's 10 blocks are cached, 5 to prefill, 5 to decode with."
    )
    assert ["worker", "cached blocks", "prompt", "credit", "decode", "cost"] == picture.table.header
    assert ["DummyWorker-2", 8, "10", "8", "9", "11"] == picture.table.rows[2]
    assert picture.svg() == score_card_picture(DOCUMENTED).svg()


def test_the_numbers_have_a_column_for_what_only_some_routers_count() -> None:
    """What is queued, and weights for requests."""
    made = kv_decision([2, 5, 8], [10, 5, 9], prefill=[32, 0, 40], requests=[0, 1, 5], weight=2)
    table = score_card_picture(made).table

    assert ["prompt", "queued prefill", "credit", "decode", "requests", "cost"] == table.header[2:]
    assert ["10", "2.5", "8", "9", "10", "23.5"] == table.rows[2][2:]


def test_a_request_draws_its_last_pick_by_cost(one_request: Trace) -> None:
    """One that was not picked so has a card without rows, and no error."""
    assert "No scores: kv did not choose here" in one_request.plot_score_card().label

    hop = hop_of(one_request.hops[-1], "DummyWorker-1", "begenerate", routed=4, started=4, ended=4.5)
    hop.instance_id, hop.decision = DOCUMENTED.instance_id, DOCUMENTED
    one_request.hops.append(hop)

    assert one_request.plot_score_card().label.startswith("DummyWorker-1 wins with 10")


def test_a_graph_that_runs() -> None:
    """The second of two prompts that begin alike goes where the first is cached, and card and words say so."""
    prompt = " ".join(f"word{n}" for n in range(21))
    with serve(
        Frontend, workers={"DummyWorker": 4}, router_mode="kv", kv={"block_size": 4}, seed=7, name="card"
    ) as deployment:
        deployment.ask(prompt, request_id="one")
        deployment.ask(prompt, request_id="two")
        first, trace = deployment.traces["one"], deployment.traces["two"]

    assert first.answered_by is not None
    assert "drawn by lot from 4 that tie; nobody has any of the prompt cached" in first.plot_score_card().label
    label = trace.plot_score_card().label
    assert f"{first.answered_by.worker} wins with 5.75; nobody has more of the prompt cached (5 of 5 blocks)" in label
    assert "cost 5.75 is the lowest of 4 workers: 5 of the prompt's 5 blocks are cached, 0.75 to prefill" in repr(
        Explanation.of(trace)
    )
