"""Chats: prompts that grow turn by turn, each the whole chat so far."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dynlab.kv.blocks import BLOCK_SIZE
from dynlab.simulate.draws import Stream, poisson_arrivals, positive, restarting_sum, rng_of, whole
from dynlab.simulate.workload import Workload, of_prompts

__all__ = ("chats",)


def chats(
    n: int,
    rate: float,
    *,
    users: int = 64,
    turns: float = 4.0,
    system_blocks: int = 8,
    question_blocks: int = 4,
    osl: int = 64,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> Workload:
    """Draw n requests of users who chat: each turn's prompt is the whole chat so far and a new question.

    Args:
        n: requests of all users; they come as those of `poisson`, each from a user drawn at random. So a user thinks
            for users / rate seconds in the mean (exponential).
        rate: requests per second, of all users.
        users: how many chat at the same time; whose chat is over begins a new one.
        turns: questions of a chat in the mean (geometric, at least one).
        system_blocks: blocks that all chats begin with.
        question_blocks: blocks of a question in the mean (geometric, at least one).
        osl: tokens of each answer. From the next turn on they are part of the prompt, rounded up to full blocks.
        block_size: tokens of a block. Prompts have no tail: isl is their blocks' tokens.
        seed: the same seed gives the same requests.

    Raises:
        ConfigError: for a number that is none.
    """
    whole(users=users, question_blocks=question_blocks, osl=osl, block_size=block_size)
    whole(system_blocks=system_blocks, least=0)
    positive(turns=turns, least=1.0)
    arrivals = poisson_arrivals(n, rate, seed)
    draws = rng_of(seed, Stream.FAMILIES)
    user = np.floor(draws.random(n) * users).astype(np.int64)
    over = rng_of(seed, Stream.BURSTS).random(n) < 1 / turns
    asked = rng_of(seed, Stream.LENGTHS).geometric(1 / question_blocks, n)
    # One user's requests behind the other's; a chat begins with a user, and after each turn that was the last.
    order = np.argsort(user, kind="stable")
    begins = np.append(True, np.diff(user[order]) != 0) | np.append(True, over[order][:-1])
    starts = np.flatnonzero(begins)
    answered = np.where(begins, 0, -(-osl // block_size))
    grown = restarting_sum(asked[order] + answered, starts)
    ends = np.append(starts[1:], n)
    system = tuple(range(system_blocks))
    ids = np.cumsum(np.append(system_blocks, grown[ends - 1])).tolist()  # where each chat's ids begin
    lengths = (system_blocks + grown).tolist()
    sequences: list[tuple[int, ...]] = [()] * n
    family = np.empty(n, np.int64)
    family[order] = np.cumsum(begins) - 1
    for (first, last), start, end in zip(pairwise(ids), starts.tolist(), ends.tolist(), strict=True):
        chat = system + tuple(range(first, last))
        for position, length in zip(order[start:end].tolist(), lengths[start:end], strict=True):
            sequences[position] = chat[:length]
    isl = np.empty(n, np.int64)
    isl[order] = (system_blocks + grown) * block_size
    return of_prompts(
        f"chats of {users} users, {turns:g} turns", arrivals, isl, osl, sequences, family, block_size, seed
    )
