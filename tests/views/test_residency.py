"""Residency maps: shares counted from an index made by hand, darkness and number for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.colors import to_hex

from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.kv.indexer import KvIndexer
from dynlab.views.pictures import residency_picture
from dynlab.views.residency import MAX_FAMILIES, Residency, plot_residency
from dynlab.views.style import SHARES
from dynlab.views.traces import Traces
from tests.views.conftest import FIRST_ID, flaws

SIZE = 2
CATS, TEAS = ["the cat sat on a mat", "the cat ate"], ["a tea is hot"]
NAMES = {FIRST_ID: "DummyWorker-0", FIRST_ID + 1: "DummyWorker-1"}


def stored(*held: tuple[int, str]) -> KvIndexer:
    indexer = KvIndexer()
    for worker, prompt in held:
        indexer.store(FIRST_ID + worker, sequence_hashes(block_hashes(tokenize(prompt), SIZE)))
    return indexer


def test_a_share_counts_the_different_blocks_of_a_family() -> None:
    """The cats have three blocks; one worker holds them all, the other the first."""
    residency = Residency.of([*CATS, *CATS, *TEAS], stored((0, CATS[0]), (1, CATS[1])), SIZE, workers=NAMES)

    assert [("the cat", 4, 3, 3, (3, 1)), ("a tea", 1, 2, 0, (0, 0))] == [
        (each.name, each.requests, each.blocks, each.cached, each.held) for each in residency.families
    ]
    assert "A cached block is in 1.3 of 2 caches on average; 60% of the blocks are cached" == residency.finding


@pytest.mark.parametrize(
    ("held", "finding"),
    [
        ([], "No block of these prompts is in any cache"),
        ([(0, CATS[0]), (1, TEAS[0])], "No block is in more than one of the 2 caches; all blocks are cached"),
        ([(0, CATS[0]), (1, CATS[0])], "What is cached is in all 2 caches; 60% of the blocks are cached"),
    ],
)
def test_the_finding_tells_copies_from_homes(held: list[tuple[int, str]], finding: str) -> None:
    """Everything everywhere, or each at one place."""
    assert finding == Residency.of([*CATS, *TEAS], stored(*held), SIZE, workers=NAMES).finding


def test_families_may_be_given() -> None:
    """By name, or by a function of the prompt."""
    by_name = Residency.of({"A": TEAS, "B": [*CATS, *CATS]}, stored(), SIZE, workers=NAMES)
    by_function = Residency.of([*CATS, *TEAS], stored(), SIZE, family=lambda prompt: prompt[:1], workers=NAMES)

    assert [("B", 4), ("A", 1)] == [(each.name, each.requests) for each in by_name.families]
    assert [("t", 2), ("a", 1)] == [(each.name, each.requests) for each in by_function.families]


def test_a_cell_is_as_dark_as_its_share_and_has_its_number() -> None:
    """Five steps: nothing, and a quarter each."""
    ax = plot_residency([*CATS, *TEAS], stored((0, CATS[0]), (1, CATS[1])), SIZE, workers=NAMES)

    cells = {
        (round(c.get_x() + c.get_width() / 2), round(c.get_y() + 0.46)): to_hex(c.get_facecolor()) for c in ax.patches
    }
    assert [SHARES[4], SHARES[2], SHARES[0]] == [cells[at].upper() for at in ((0, 0), (1, 0), (0, 1))]
    assert {"100", "33", "0"} <= {text.get_text() for text in ax.texts}
    assert ["the cat", "a tea"] == [label.get_text() for label in ax.get_yticklabels()]
    assert "n = 3 prompts" in ax.get_xlabel()


def test_traces_count_the_requests_of_each_worker(picked: Callable[..., Traces]) -> None:
    """And name the workers, also one that holds nothing."""
    picture = residency_picture(CATS, stored((0, CATS[0])), SIZE, traces=picked("kv", [0, 0, 2], workers=3))

    assert ["the cat", 2, 3, 3, 0, 0] == picture.table.rows[0]
    assert ["family", "requests", "blocks", "DummyWorker-0", "DummyWorker-1", "DummyWorker-2"] == picture.table.header
    assert ["2", "0", "1"] == [text.get_text() for text in picture.axes.texts][-3:]
    assert "seed = 7" in picture.axes.get_xlabel()


@pytest.mark.parametrize(
    ("workers", "first", "columns"), [(3, "DummyWorker-0", False), (4, "DummyWorker-0", False), (5, "0", True)]
)
def test_few_workers_have_their_names_and_many_their_numbers(
    workers: int, first: str, columns: bool, picked: Callable[..., Traces]
) -> None:
    """A number over numbers is hard to read; where the names find no room, a line says what the numbers are."""
    families = {"a name of twenty too": CATS, "tea": TEAS}
    ax = plot_residency(families, stored((0, CATS[0])), SIZE, traces=picked("kv", [0], workers=workers))

    assert first == ax.get_xticklabels()[0].get_text()
    assert columns is ("columns: DummyWorker number" in ax.get_xlabel())
    assert [] == flaws(ax)


def test_workers_without_names_are_numbered() -> None:
    """Those that the index knows, and that nobody named."""
    assert ["worker 7001"] == Residency.of(CATS, stored((0, CATS[0])), SIZE).workers


@pytest.mark.parametrize("workers", [3, 8, 16])
def test_nothing_is_cut_off(workers: int, picked: Callable[..., Traces]) -> None:
    """All words lie inside the picture, and not on each other."""
    prompts = [f"family{f:02} of a very-long name b{n}" for f in range(30) for n in range(9) for _ in range(30 - f)]
    indexer = stored(*((int(prompt[6:8]) % workers, prompt) for prompt in prompts[:3000]))
    ax = plot_residency(prompts, indexer, SIZE, traces=picked("kv", range(workers), workers=workers))

    assert [] == flaws(ax)
    assert MAX_FAMILIES == len(ax.get_yticks())
    assert "6 less used families are not drawn" in ax.get_xlabel()


def test_no_prompts_are_no_error() -> None:
    """Nor prompts without a full block."""
    assert "No prompt has a full block yet." == residency_picture([], KvIndexer()).label
    assert "No prompt has a full block yet." == residency_picture(["x"], KvIndexer(), SIZE).label
