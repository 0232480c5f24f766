"""`dynlab.kv.blocks`: what a block's hash is, what it depends on, and what prefixes share. See also test_kv_parity."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from dynlab.errors import TokensError
from dynlab.kv.blocks import BLOCK_SIZE, block_hashes, in_common, sequence_hashes, tokenize

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=60)
SIZES = st.integers(1, 9)
TEXTS = st.text(alphabet=st.characters(), max_size=40)


# ---------------------------------------------------------------------------- a block's own hash


def test_a_known_hash() -> None:
    """The first of four blocks of 0 to 15 has the hash that Dynamo gives it."""
    hashes = block_hashes(list(range(16)), 4)

    assert 4 == len(hashes)
    assert 9143094415614847814 == hashes[0]


@given(TOKENS, SIZES)
def test_a_block_is_its_tokens_as_little_endian_numbers(tokens: list[int], size: int) -> None:
    """XXH3-64 with seed 1337 over 4 bytes a token, block by block; the tail that fills no block is dropped."""
    full = [tokens[start : start + size] for start in range(0, len(tokens) - size + 1, size)]

    expected = [xxh3_64_intdigest(struct.pack(f"<{size}I", *block), 1337) for block in full]

    assert expected == block_hashes(tokens, size) == block_hashes(tuple(tokens), size)


def test_the_usual_block_has_16_tokens() -> None:
    """Where no size is given, 33 tokens are two blocks."""
    assert 16 == BLOCK_SIZE
    assert block_hashes(range(33), 16) == block_hashes(range(33))


@given(TOKENS, SIZES)
def test_adapters_and_namespaces_share_nothing(tokens: list[int], size: int) -> None:
    """A LoRA adapter's name and a cache namespace make other hashes; empty ones are none."""
    plain = block_hashes(tokens, size)
    others = [
        block_hashes(tokens, size, lora_name="a"),
        block_hashes(tokens, size, lora_name="b"),
        block_hashes(tokens, size, cache_namespace="a"),
        block_hashes(tokens, size, "a", "a"),
    ]

    assert plain == block_hashes(tokens, size, "", "")
    assert 5 * len({*plain}) == len({*plain}.union(*others))


@pytest.mark.parametrize("odd", [-1, 2**32, 1.0, "1", None], ids=repr)
@pytest.mark.parametrize("place", [0, 3, 4], ids=["first", "last of a block", "in the tail"])
def test_what_is_no_token_is_named(odd: object, place: int) -> None:
    """The sentence shows the value and the range, wherever it stands; a number of NumPy's is as good as an int."""
    tokens: list[object] = [1, 2, 3, 4, 5]
    tokens[place] = odd

    with pytest.raises(
        TokensError, match=r"is no token id; token ids are whole numbers from 0 to 2\*\*32 - 1\.$"
    ) as caught:
        block_hashes(tokens, 4)  # type: ignore[arg-type]

    assert str(caught.value).startswith(f"{odd!r} ")


@pytest.mark.parametrize("size", [0, -1])
def test_a_block_has_tokens(size: int) -> None:
    """A block size below 1 is refused."""
    with pytest.raises(TokensError, match=rf"block_size={size} must be 1 or more tokens\."):
        block_hashes([1], size)


# ---------------------------------------------------------------------------- a sequence's


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12))
def test_a_sequence_hash_rolls_on(blocks: list[int]) -> None:
    """The first is the block's own; each other is XXH3-64, seed 1337, of the one before and the block, 8 bytes each."""
    expected = blocks[:1]
    for block in blocks[1:]:
        expected.append(xxh3_64_intdigest(struct.pack("<QQ", expected[-1], block), 1337))

    assert expected == sequence_hashes(blocks)


@given(TOKENS, SIZES, st.data())
def test_one_changed_token_changes_all_after_it(tokens: list[int], size: int, data: st.DataObject) -> None:
    """Blocks before the changed one keep their sequence hashes, no block from it on does."""
    whole = len(tokens) // size * size
    if not whole:
        return
    place = data.draw(st.integers(0, whole - 1))
    changed = [*tokens]
    changed[place] ^= 1

    before, after = (sequence_hashes(block_hashes(some, size)) for some in (tokens, changed))

    assert [True] * (place // size) == [a == b for a, b in zip(before, after, strict=True)][: place // size]
    assert not set(before[place // size :]) & set(after)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 5), st.integers(0, 5))
def test_what_two_prompts_have_in_common(same: int, more: int, others: int, here: int, there: int) -> None:
    """`in_common` counts the equal blocks at the start, wherever in its list each prompt starts."""
    these = [-1] * here + [*range(same + more)]
    those = [-2] * there + [*range(same), *range(100, 100 + others)]
    if same + more and same + others:
        assert same == in_common(these, here, those, there)


# ---------------------------------------------------------------------------- tokens of a text


def test_words_and_signs_are_tokens() -> None:
    """A word is one token, whatever its length, and so is each sign; blanks are none."""
    one, two, three = tokenize("Hello, world")

    assert [one, two, three, two, two] == tokenize("  Hello ,world,\n,")
    assert 3 == len({one, two, three})


@given(TEXTS)
def test_every_text_has_tokens(text: str) -> None:
    """Whatever the signs, even halves of characters as JSON may hold, all tokens are in range."""
    assert [] == [token for token in tokenize(text + "\ud800") if not 0 <= token < 2**32]


@given(TEXTS, TEXTS)
def test_what_begins_alike_is_tokenized_alike(start: str, rest: str) -> None:
    """A text that begins with another text of whole words begins with its tokens."""
    tokens = tokenize(start)

    assert tokens == tokenize(f"{start} {rest}")[: len(tokens)]
    assert tokens + tokenize(rest) == tokenize(f"{start} {rest}")


def test_tokens_are_the_same_in_every_process() -> None:
    """Python's own `hash` of a text changes from process to process; a token does not."""
    text = "Tell me a joke, na\u00efve Zo\u00eb!"
    ask = f"from dynlab.kv.blocks import tokenize; print(tokenize({text!a}))"
    root = str(Path(__file__).parents[2])

    said = {
        subprocess.run(
            [sys.executable, "-c", ask],
            env={"PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert {str(tokenize(text))} == said
    assert 3037945186 == tokenize(text)[0]


def test_long_prompts_of_many_lengths() -> None:
    """What is kept to pack a length quickly is dropped again, and packs rightly each time."""
    rng = random.Random(1)
    tokens = [rng.randrange(2**32) for _ in range(700)]

    whole = block_hashes(tokens, 4)

    assert all(whole[: length // 4] == block_hashes(tokens[:length], 4) for length in range(700))
