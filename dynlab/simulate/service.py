"""How long requests take to serve: rules that draw service times, each with the mean that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dynlab.errors import ConfigError
from dynlab.simulate.draws import Floats, fraction, positive

__all__ = ("Service", "constant", "exponential", "giants", "heavy_tailed")


@dataclass(frozen=True, repr=False)
class Service:
    """A rule with a name; `draw(rng, n)` returns n service times in seconds at speed 1, shape (n,)."""

    name: str
    mean: float
    draw: Callable[[np.random.Generator, int], Floats]

    def __repr__(self) -> str:
        return f"<Service {self.name}, mean {self.mean:g} s>"


def constant(mean: float = 1.0) -> Service:
    """Every request takes `mean` seconds."""
    positive(mean=mean)
    return Service("constant", mean, lambda rng, n: np.full(n, float(mean)))


def exponential(mean: float = 1.0) -> Service:
    """The rule of M/M/1: most are short, and how long one has run says nothing of how long it still will."""
    positive(mean=mean)
    return Service("exponential", mean, lambda rng, n: rng.exponential(mean, n))


def heavy_tailed(mean: float = 1.0, alpha: float = 1.5) -> Service:
    """Pareto: the share that is longer than t falls as t ** -alpha; up to an alpha of 2 the variance is infinite.

    The mean is that of the rule. With a small alpha it rests on giants so rare that most samples have a lower one.

    Raises:
        ConfigError: unless alpha is above 1: heavier tails have no mean.
    """
    positive(mean=mean, alpha=alpha)
    if alpha <= 1:
        raise ConfigError(f"alpha={alpha!r} must be above 1; heavier tails have no mean.")
    shortest = mean * (alpha - 1) / alpha
    return Service(f"heavy-tailed (Pareto {alpha:g})", mean, lambda rng, n: shortest * (1 + rng.pareto(alpha, n)))


def giants(share: float = 0.05, factor: float = 19.0, mean: float = 1.0) -> Service:
    """Two sizes: a `share` of requests takes `factor` times as long as the others.

    Raises:
        ConfigError: unless the share is above 0 and below 1.
    """
    fraction(share=share)
    positive(factor=factor, mean=mean)
    short = mean / (1 - share + share * factor)
    return Service(
        f"{share:.3g} giants of {factor:g} times the others",
        mean,
        lambda rng, n: np.where(rng.random(n) < share, short * factor, short),
    )
