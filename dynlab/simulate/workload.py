"""Who comes when, and wants what: columns of requests, drawn from a seed. Chats: chats.py; files: trace_formats.py.

Arrivals, service times, families and lengths each have a stream of random numbers of their own. So two workloads of one
seed that differ in one of them are equal in all others, arrivals at another rate are the same ones stretched, and
routers are compared on the same requests ("common random numbers").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynlab.errors import ConfigError
from dynlab.kv.blocks import BLOCK_SIZE
from dynlab.simulate.draws import Floats, Ints, Stream, fraction, poisson_arrivals, positive, rng_of, whole
from dynlab.simulate.service import Service, constant

__all__ = ("Workload", "bursty", "of_prompts", "poisson", "prefix_families")


@dataclass(frozen=True, eq=False, repr=False)
class Workload:
    """Requests in the order of their arrival. Each column has one entry a request, shape (n,), and is read-only.

    Args:
        name: what it is, for captions.
        arrival_s: when each comes, in seconds from the start; never falls.
        service_s: how long each takes to serve at speed 1, in seconds; zeros where tokens say that.
        isl: tokens of each prompt ("input sequence length"); zeros where service times say it all.
        osl: tokens of each answer ("output sequence length"), at least one.
        sequences: each prompt's full blocks, from the first on, as ids that are made up to be equal exactly when the
            blocks and all before them are equal. Sequence hashes are that, too, and caches and routers take either.
            Empty where nothing is known of the text. (Mooncake's traces have an id for a last block that is not full.)
        family: which prompts belong together: the number of a prefix family or of a chat; -1 for none.
        block_size: tokens of a block.
        seed: what it was drawn with; None for a trace.

    Raises:
        ConfigError: if a column is none, has another length, or holds a number that cannot be.
    """

    name: str
    arrival_s: Floats
    service_s: Floats
    isl: Ints
    osl: Ints
    sequences: Sequence[Sequence[int]]
    family: Ints
    block_size: int = BLOCK_SIZE
    seed: int | None = None

    def __post_init__(self) -> None:
        whole(block_size=self.block_size)
        for name in ("arrival_s", "service_s"):
            object.__setattr__(self, name, self._checked(name, 0, np.float64))
        for name, least in (("isl", 0), ("osl", 1), ("family", -1)):
            object.__setattr__(self, name, self._checked(name, least, np.int64))
        if len(self.sequences) != len(self):
            raise ConfigError(f"sequences has {len(self.sequences)} entries for {len(self)} requests.")
        back = np.flatnonzero(np.diff(self.arrival_s) < 0)
        if back.size:
            late = int(back[0]) + 1
            raise ConfigError(
                f"arrival_s[{late}]={self.arrival_s[late]} is earlier than the {self.arrival_s[late - 1]} before it; "
                "give requests in the order of their arrival."
            )

    def _checked(self, name: str, least: int, dtype: type[np.float64 | np.int64]) -> NDArray[Any]:
        given = getattr(self, name)
        try:
            column = np.asarray(given)
        except ValueError:  # lists of different lengths in a list
            column = np.empty((0, 0))
        kinds, numbers = ("iuf", "numbers") if dtype is np.float64 else ("iu", "whole numbers")
        if column.ndim != 1 or not column.size or column.dtype.kind not in kinds:
            raise ConfigError(f"{name} must be {numbers}, one for each of 1 or more requests, not {given!r:.60}.")
        if len(column) != len(self.arrival_s):
            raise ConfigError(f"{name} has {len(column)} entries for {len(self.arrival_s)} requests.")
        column = column.astype(dtype, copy=False).view()
        odd = np.flatnonzero(~((column >= least) & (column < np.inf)))
        if odd.size:
            raise ConfigError(f"{name}[{odd[0]}]={column[odd[0]]} must be a finite number of {least} or more.")
        column.flags.writeable = False
        return column

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the last arrival."""
        return float(self.arrival_s[-1])

    @property
    def rate(self) -> float:
        """Requests per second over all of it; infinite if all come at the start."""
        return len(self) / self.duration_s if self.duration_s else float("inf")

    @property
    def offered_load(self) -> float:
        """How many workers of speed 1 are kept busy (in Erlang); 0 where tokens say how long a request takes."""
        mean = float(self.service_s.mean())
        return self.rate * mean if mean else 0.0

    @property
    def has_prompts(self) -> bool:
        """True if requests are tokens, False if they are service times."""
        return bool(self.isl.any())

    def head(self, n: int) -> Workload:
        """Return the first n requests, or all if there are fewer."""
        whole(n=n)
        columns = ("arrival_s", "service_s", "isl", "osl", "sequences", "family")
        return dataclasses.replace(self, **{name: getattr(self, name)[:n] for name in columns})

    def at_rate(self, rate: float) -> Workload:
        """Return the same requests at another `rate`, exactly so many a second: all gaps are stretched alike.

        Raises:
            ConfigError: for a rate that is none, or if all come at once.
        """
        positive(rate=rate)
        if not self.duration_s:
            raise ConfigError(
                f"All {len(self)} requests come at second 0: there are no gaps to stretch to rate={rate:g}."
            )
        return dataclasses.replace(self, arrival_s=self.arrival_s * (self.rate / rate))

    def __repr__(self) -> str:
        if self.has_prompts:
            isl, osl = self.isl.mean(), self.osl.mean()
            wants = f"mean {isl:,.0f} tokens in and {osl:,.0f} out"
            load = f"{self.rate * isl:,.0f} tokens in and {self.rate * osl:,.0f} out a second"
        else:
            wants = f"mean service {self.service_s.mean():.3g} s"
            load = f"keeps {self.offered_load:.3g} workers busy"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Workload {self.name}: {len(self):,} requests, {self.rate:.3g} a second, {wants}; {load}{seed}>"


def poisson(n: int, rate: float, *, service: Service | None = None, seed: int = 0) -> Workload:
    """Draw n requests that come independently of each other, `rate` a second: exponential gaps.

    `service` says how long they take, by default one second each. (With `exponential()` this is Mitzenmacher's
    supermarket model: "The Power of Two Choices in Randomized Load Balancing", TPDS 12(10), 2001.)

    Raises:
        ConfigError: for a count, rate, service or seed that is none.
    """
    return _queueing("Poisson", poisson_arrivals(n, rate, seed), service, seed)


def bursty(
    n: int,
    rate: float,
    *,
    burst: float = 5.0,
    share: float = 0.2,
    stay: float = 20.0,
    service: Service | None = None,
    seed: int = 0,
) -> Workload:
    """Draw n requests that come in bursts: a two-state Markov-modulated Poisson process with `rate` in the mean.

    Args:
        n: requests.
        rate: requests per second in the mean of a long time, over bursts and the calm between them.
        burst: how many times as many come per second in a burst as between bursts; 1.0 is no burst at all.
        share: share of the time that is burst.
        stay: how long a burst lasts in the mean, in mean gaps (1 / rate seconds); exponential, as the calms are.
        service: how long they take; by default one second each.
        seed: the same seed gives the same requests; also the order of arrivals is that of `poisson`.

    Raises:
        ConfigError: for a number that is none, or a service that is none.
    """
    positive(burst=burst, least=1.0)
    positive(stay=stay, least=1.0)
    fraction(share=share)
    steady = poisson_arrivals(n, 1.0, seed)
    positive(rate=rate)
    calm = 1 / (1 - share + share * burst)
    # Even entries are calms and odd ones bursts, so it may have to begin with a calm of no length.
    rng = rng_of(seed, Stream.BURSTS)
    stays, speeds, passed = np.zeros(0), np.zeros(0), np.zeros(1)
    begins_in_burst = rng.random() < share
    while passed[-1] < steady[-1]:
        more = rng.exponential(1.0, (64 + int(n * share / stay), 2)) * (stay * (1 - share) / share, stay)
        if begins_in_burst and not len(stays):
            more[0, 0] = 0.0
        stays = np.concatenate([stays, more.ravel()])
        speeds = np.tile((calm, calm * burst), len(stays) // 2)
        passed = np.concatenate([[0.0], np.cumsum(stays * speeds)])
    # A steady stream of requests, of which a burst lets as many through in less time.
    arrivals = np.interp(steady, passed, np.concatenate([[0.0], np.cumsum(stays)]))
    return _queueing(f"bursts of {burst:g} times the calm", arrivals / rate, service, seed)


def prefix_families(
    n: int,
    rate: float,
    *,
    families: int = 24,
    prefix_blocks: int = 32,
    unique_blocks: int = 8,
    osl: int = 1,
    zipf: float = 1.0,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> Workload:
    """Draw n prompts that each begin with their family's prefix, as those with one system prompt do.

    Args:
        n: requests; they come as those of `poisson`.
        rate: requests per second.
        families: how many prefixes there are.
        prefix_blocks: blocks of each prefix.
        unique_blocks: blocks after it, that no other prompt has.
        osl: tokens of each answer.
        zipf: family k comes as often as 1 / (k + 1) ** zipf, from k = 0; 0 is equally often.
        block_size: tokens of a block. Prompts have no tail: isl is their blocks' tokens.
        seed: the same seed gives the same requests.

    Raises:
        ConfigError: for a number that is none.
    """
    whole(families=families, prefix_blocks=prefix_blocks, osl=osl, block_size=block_size)
    whole(unique_blocks=unique_blocks, least=0)
    positive(zipf=zipf, least=0.0)
    arrivals = poisson_arrivals(n, rate, seed)
    shares = np.cumsum(np.exp(-zipf * np.log(np.arange(1, families + 1))))
    family = np.searchsorted(shares[:-1], rng_of(seed, Stream.FAMILIES).random(n) * shares[-1], side="right")
    own = families * prefix_blocks  # ids from here on are no family's
    prefixes = [tuple(range(start, start + prefix_blocks)) for start in range(0, own, prefix_blocks)]
    sequences = [
        prefixes[number] + tuple(range(start, start + unique_blocks))
        for number, start in zip(family.tolist(), count(own, unique_blocks))
    ]
    name = f"{families} prefix families of {prefix_blocks} + {unique_blocks} blocks, Zipf {zipf:g}"
    isl = np.full(n, (prefix_blocks + unique_blocks) * block_size)
    return of_prompts(name, arrivals, isl, osl, sequences, family, block_size, seed)


def _queueing(name: str, arrivals: Floats, service: Service | None, seed: int) -> Workload:
    service = constant() if service is None else service
    if not isinstance(service, Service):
        raise ConfigError(
            f"service={service!r} says no service times; give constant(1.0), exponential(1.0), heavy_tailed(1.0) or "
            "giants(), all of dynlab.simulate.service."
        )
    n = len(arrivals)
    return Workload(
        name=f"{name}, {service.name}",
        arrival_s=arrivals,
        service_s=service.draw(rng_of(seed, Stream.SERVICE), n),
        isl=np.zeros(n, np.int64),
        osl=np.ones(n, np.int64),
        sequences=[()] * n,
        family=np.full(n, -1, np.int64),
        seed=seed,
    )


def of_prompts(
    name: str,
    arrivals: Floats,
    isl: Ints,
    osl: int,
    sequences: Sequence[Sequence[int]],
    family: Ints,
    block_size: int,
    seed: int,
) -> Workload:
    """Make a workload of prompts, whose answers all have `osl` tokens; the other arguments are its columns."""
    n = len(arrivals)
    return Workload(name, arrivals, np.zeros(n), isl, np.full(n, osl), sequences, family, block_size, seed)
