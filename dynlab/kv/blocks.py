"""Tokens -> full blocks -> hashes, equal to Dynamo's (`compute_block_hash_for_seq`, lib/kv-router/src/protocols.rs).

A prompt is cut into blocks of `block_size` tokens, and its tail is dropped: only full blocks are kept in a KV cache.
A block's own hash tells what is in it; its sequence hash tells that *and all that comes before it*, so equal
sequence hashes mean equal prefixes, and one changed token changes every sequence hash after it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import repeat
from struct import Struct, error

from xxhash import xxh3_64_intdigest, xxh32_intdigest

from dynlab.errors import TokensError

__all__ = ("BLOCK_SIZE", "block_hashes", "in_common", "sequence_hashes", "tokenize")

BLOCK_SIZE = 16
"""Tokens of a KV block where nobody says otherwise (Dynamo's and vLLM's default)."""
SEED = 1337
_MASK = 2**64 - 1
_pack_pair = Struct("<QQ").pack
_pack_token = Struct("<I").pack
_PIECES = re.compile(r"\w+|[^\w\s]")


def tokenize(text: str) -> list[int]:
    """Make token ids of a text: one for each word and each sign, the same for the same text on every machine.

    Good enough to see what prefixes share; it is no model's vocabulary, and there is no way back to the text.
    """
    # "surrogatepass": JSON may hold halves of characters, and they are signs like any other.
    return [xxh32_intdigest(piece.encode("utf-8", "surrogatepass")) for piece in _PIECES.findall(text)]


def block_hashes(
    tokens: Sequence[int],
    block_size: int = BLOCK_SIZE,
    lora_name: str | None = None,
    cache_namespace: str | None = None,
) -> list[int]:
    """Return the hash of each full block: XXH3-64 with seed 1337 of its tokens as little-endian 32-bit numbers.

    A LoRA adapter's name and a cache namespace change the seed: the same text under two adapters shares nothing.

    Raises:
        TokensError: if `block_size` is no positive number, or a token is none of 0 to 2**32 - 1.
    """
    if block_size < 1:
        raise TokensError(f"block_size={block_size} must be 1 or more tokens.")
    seed = SEED
    if lora_name:
        seed += xxh3_64_intdigest(lora_name.encode())
    if cache_namespace:
        seed += xxh3_64_intdigest(cache_namespace.encode(), 1)
    pack, cut = _layout(len(tokens), block_size)
    try:
        data = pack(*tokens)
    except error:
        odd = next(token for token in tokens if not _is_token(token))
        raise TokensError(f"{odd!r} is no token id; token ids are whole numbers from 0 to 2**32 - 1.") from None
    return list(map(xxh3_64_intdigest, cut(data), repeat(seed & _MASK)))


def sequence_hashes(blocks: Sequence[int]) -> list[int]:
    """Return the rolling hash of each block: the first block's own, then XXH3-64 of the one before and the block."""
    if not blocks:
        return []
    rolled = blocks[0]
    hashes = [rolled]
    for block in blocks[1:]:
        rolled = xxh3_64_intdigest(_pack_pair(rolled, block), SEED)
        hashes.append(rolled)
    return hashes


def in_common(these: Sequence[int], here: int, those: Sequence[int], there: int) -> int:
    """Count how many sequence hashes from `here` on are those from `there` on; both have at least one left."""
    most = min(len(these) - here, len(those) - there)
    # Equal sequence hashes mean that all before them is equal, too.
    if these[here + most - 1] == those[there + most - 1]:
        return most
    return bisect_left(range(most), True, key=lambda n: these[here + n] != those[there + n])


# Both steps are one call into C however many tokens there are, as fast as Dynamo's own; making the two takes longer.
@lru_cache(maxsize=128)
def _layout(tokens: int, block_size: int) -> tuple[Callable[..., bytes], Callable[[bytes], tuple[bytes, ...]]]:
    """Return what packs so many tokens into bytes, and what cuts the bytes into full blocks."""
    blocks, tail = divmod(tokens, block_size)
    return Struct(f"<{tokens}I").pack, Struct(f"{4 * block_size}s" * blocks + f"{4 * tail}x").unpack


def _is_token(token: object) -> bool:
    try:
        return bool(_pack_token(token))
    except error:
        return False
