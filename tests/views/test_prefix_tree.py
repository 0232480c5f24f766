"""Prefix trees: what is shared, who holds it, and where reuse stops, from prompts made by hand."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes

from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.kv.indexer import KvIndexer
from dynlab.views.pictures import prefix_tree_picture
from dynlab.views.prefix_tree import MAX_BLOCKS, PrefixTree, plot_prefix_tree, prompt_blocks
from dynlab.views.style import PAPER
from tests.views.conftest import flaws

SIZE = 2
NAMES = {7001: "W-0", 7002: "W-1", 7003: "W-2"}
CAT, DOG = "you are a cat , so purr", "you are a dog , so bark"


def stored(*held: tuple[int, str]) -> KvIndexer:
    """An index of workers that hold prompts."""
    indexer = KvIndexer()
    for worker, prompt in held:
        indexer.store(worker, sequence_hashes(block_hashes(tokenize(prompt), SIZE)))
    return indexer


def tree(*prompts: str, query: str | None = None) -> PrefixTree:
    return PrefixTree.of(prompts, stored((7001, CAT), (7003, CAT), (7003, DOG)), SIZE, query, NAMES)


def dots(ax: Axes, *, filled: bool) -> int:
    lines = [line for line in ax.lines if line.get_marker() == "o" and (line.get_markerfacecolor() != PAPER) is filled]
    return sum(len(line.get_xdata()) for line in lines)


def test_blocks_are_cut_as_the_router_cuts_them() -> None:
    """Same hashes, and the words that they stand for; the tail is left out."""
    text = "it's 3.5 o'clock,\nfar_too late — isn't it"

    blocks = prompt_blocks(text, 3)

    assert sequence_hashes(block_hashes(tokenize(text), 3)) == [block for block, _ in blocks]
    assert tokenize(text)[: 3 * len(blocks)] == [token for _, words in blocks for token in tokenize(" ".join(words))]


def test_a_block_is_drawn_once_for_all_prompts_that_share_it() -> None:
    """In the order of the prompts, with the workers that hold it; one alike named is named by what differs."""
    found = [(b.depth, b.word, b.requests, sorted(b.holders), b.row) for b in tree(CAT, CAT, DOG).root.walk()]

    assert [
        (1, "you", 3, [7001, 7003], 0),
        (2, "a", 2, [7001, 7003], 0),
        (3, ",", 2, [7001, 7003], 0),
        (2, "…dog", 1, [7003], 1),
        (3, ",", 1, [7003], 1),
    ] == found
    assert "5 of 5 different blocks are cached, 3 of them by more than one worker" == tree(CAT, CAT, DOG).finding


@pytest.mark.parametrize(
    ("query", "finding"),
    [
        ("you are a hen , so", "Reuse stops in the query's block 2 of 3, at 'hen'; the block after it is lost too"),
        ("you are a cat , but", "Reuse stops in the query's block 3 of 3, at 'but'"),
        ("you are a hen , so x y", "Reuse stops in the query's block 2 of 4, at 'hen'; the 2 blocks after it are lost"),
        (CAT, "2 workers can reuse all 3 blocks of the query"),
        (DOG, "W-2 can reuse all 3 blocks of the query"),
        ("they are", "Nobody holds the query's first block, 'they': nothing can be reused"),
        ("you", "The query has no full block of 2 tokens: nothing of it can be reused"),
    ],
)
def test_the_finding_says_where_reuse_stops(query: str, finding: str) -> None:
    """And what is lost behind it, though the words may be the same again."""
    assert tree(CAT, DOG, query=query).finding.startswith(finding)
    assert [] == flaws(plot_prefix_tree([CAT, DOG], stored((7001, CAT)), SIZE, query, NAMES))


def test_a_dot_a_worker_filled_where_it_holds_the_block() -> None:
    """Each worker has its place in every box."""
    ax = plot_prefix_tree([CAT, DOG], stored((7001, CAT), (7003, CAT), (7003, DOG)), SIZE, workers=NAMES)

    assert (8, 7) == (dots(ax, filled=True), dots(ax, filled=False))
    assert "dots: W-0 to W-2, left to right; filled: holds the block" in ax.get_xlabel()
    assert "n = 2 prompts" in ax.get_xlabel()


def test_one_prompt_is_one_and_two_workers_are_two() -> None:
    """As a reader says it; workers that nobody named have their numbers."""
    ax = plot_prefix_tree([CAT], stored((1, CAT), (2, CAT)), SIZE)

    assert "\nn = 1 prompt\ndots: worker 1 and worker 2, left to right; filled" in ax.get_xlabel()
    assert "Worker 1 can reuse all 3 blocks of the query" == PrefixTree.of([], stored((1, CAT)), SIZE, CAT).finding


def test_the_way_of_the_query_is_thick_up_to_the_miss_and_beyond_it_dashed() -> None:
    """One x, at the first box that nobody holds."""
    ax = plot_prefix_tree([CAT], stored((7001, CAT)), SIZE, "you are a hen , so", NAMES)

    thick = [bar.get_linestyle() for bar in ax.patches if bar.get_linewidth() > 2]
    (miss,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert ["-", (0, (3, 2)), (0, (3, 2))] == thick
    assert [1] == list(miss.get_ydata())
    assert 5 == len(ax.patches)


def test_a_block_that_was_given_up_is_a_miss() -> None:
    """The prompt has been here before, but its last block is in no cache any more."""
    indexer = stored((7001, CAT))
    indexer.remove(7001, [prompt_blocks(CAT, SIZE)[-1][0]])

    assert "Reuse stops in the query's block 3 of 3, at ','" == PrefixTree.of([CAT], indexer, SIZE, CAT).finding


def test_long_runs_are_one_box() -> None:
    """In a deep tree, blocks that are alike in all that is drawn; the numbers count them."""
    words = " ".join(f"w{n}" for n in range(40))
    found = tree(words, words + " and then", query=words.replace("w20", "CHANGED"))

    assert [("w0", 10), ("w20", 10), ("and", 1), ("CHANGED", 10)] == [(b.word, b.run) for b in found.root.walk()]
    assert [1, 2, 3, 2] == [block.depth for block in found.root.walk()]


def test_of_many_prompts_the_most_used_families_are_drawn() -> None:
    """At most sixty boxes, and the sentence says how many prompts are missing."""
    prompts = [f"family{f} a b{n} c" for f in range(30) for n in range(5) for _ in range(1 + f)]
    found = PrefixTree.of(prompts, KvIndexer(), SIZE, workers=NAMES)

    assert MAX_BLOCKS == sum(1 for _ in found.root.walk())
    assert [f"family{n}" for n in range(29, 19, -1)] == [block.word for block in found.root.children.values()]
    assert 100 == found.left_out
    picture = prefix_tree_picture(prompts, KvIndexer(), SIZE, workers=NAMES)
    assert picture.label.endswith(f" {found.left_out} other prompts are not drawn.")
    assert f"{found.left_out} different ones not drawn" in picture.axes.get_xlabel()


@pytest.mark.parametrize("workers", [3, 8, 16])
def test_nothing_is_cut_off(workers: int) -> None:
    """All words lie inside the picture, and not on each other."""
    prompts = [f"family{f} is a-long-way b{n} from c d e home f g" for f in range(3) for n in range(3)]
    indexer = stored(*((7001 + n % workers, prompt) for n, prompt in enumerate(prompts)))
    names = {7001 + n: f"DummyWorker-{n}" for n in range(workers)}

    assert [] == flaws(plot_prefix_tree(prompts, indexer, SIZE, prompts[4].replace("from", "x"), names))


def test_the_picture_has_its_numbers_and_is_the_same_again() -> None:
    """A row a block, and who holds it by name."""
    picture = prefix_tree_picture([CAT, DOG], stored((7001, CAT), (7003, CAT)), SIZE, workers=NAMES)

    assert [1, "you", 1, 2, "W-0, W-2"] == picture.table.rows[0]
    assert 'role="img"' in picture._repr_html_()
    again = prefix_tree_picture([CAT, DOG], stored((7001, CAT), (7003, CAT)), SIZE, workers=NAMES)
    assert picture.svg() == again.svg()


def test_no_prompts_are_no_error() -> None:
    """Nor is an index that knows nobody."""
    assert "No prompt has a full block yet." == prefix_tree_picture([], KvIndexer()).label
    assert "Nobody holds the query's" in prefix_tree_picture([], KvIndexer(), SIZE, CAT).label
