"""Why a KV router chose this worker: each worker's cost, part by part (W8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dynlab.views.kv_terms import Decision, Scores, blocks_text
from dynlab.views.plots import HALO, caption, new_axes
from dynlab.views.style import DECODE, INK, MUTED, OWN_TIME, PAPER, TIER, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("MAX_ROWS", "draw_score_card", "plot_score_card")

MAX_ROWS = 16
"""Workers that a card shows: the chosen, the cheapest and the one with the fullest cache are always among them."""
CHARACTER = 0.011  # of the axis that a character takes
_LOOKS: dict[str, dict[str, Any]] = {
    "saved by the cache": {"facecolor": PAPER, "edgecolor": MUTED, "hatch": "//////"},
    "this prompt's prefill": {"facecolor": OWN_TIME, "edgecolor": OWN_TIME},
    "queued prefill": {"facecolor": TIER, "edgecolor": TIER},
    "decode": {"facecolor": DECODE, "edgecolor": INK, "hatch": "||||"},
    "requests": {"facecolor": PAPER, "edgecolor": INK, "hatch": "...."},
}
_INK = {"this prompt's prefill": PAPER, "queued prefill": PAPER}  # of numbers; dark ones on all others


def plot_score_card(decision: Decision, ax: Axes | None = None, names: Mapping[int, str] | None = None) -> Axes:
    """Draw what each worker would have cost: to the left of 0 what its cache saves, to the right what is left to do.

    Args:
        decision: a pick of the mode "kv", or what `KvRouter.decide` returned.
        ax: where to draw; a new figure by default.
        names: the workers' names by id, for a decision that does not have them.
    """
    return draw_score_card(Scores.of(decision, names), ax)


def draw_score_card(scores: Scores, ax: Axes | None = None) -> Axes:
    """Draw what `Scores.of` read."""
    shown = scores.shown(MAX_ROWS)
    ax = ax if ax is not None else new_axes(7.6, 1.9 + 0.36 * max(2, len(shown)))
    low = -max((score.credit for score in shown), default=0.0)
    high = max((score.cost for score in shown), default=1.0) or 1.0
    whole = high - low
    ax.set_xlim(low - whole * 0.02, high + whole * 0.08)
    for row, score in enumerate(shown):
        at = 0.0
        parts = dict(zip(_LOOKS, (score.credit, *score.left, score.weight), strict=True))
        for name, part in parts.items():
            if part <= 0:
                continue
            begin, at = (-part, at) if name == "saved by the cache" else (at, at + part)
            ax.barh(row, part, 0.62, begin, linewidth=0.7, label=name, **_LOOKS[name])
            text = blocks_text(part)
            if part / whole > CHARACTER * (len(text) + 1):
                dark = _INK.get(name, INK)
                box = HALO if dark is INK else None
                ax.text(begin + part / 2, row, text, ha="center", va="center", fontsize=8, color=dark, bbox=box)
        won = score is scores.chosen
        total = f" {blocks_text(score.cost)}"
        ax.text(max(at, 0), row, total, va="center", fontsize=10 if won else 9, color=INK, fontweight=_weight(won))
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_ylim(max(len(shown), 1) - 0.5, -0.6)
    ax.set_yticks(range(len(shown)), [f"→ {s.worker}" if s is scores.chosen else s.worker for s in shown])
    _legend(ax)
    note = f"prompt of {scores.blocks} full blocks · n = {len(scores.by_id)} workers" if scores else ""
    if left := scores.by_id.keys() - {score.instance_id for score in shown}:
        note += f", {len(left)} of them not drawn: {scores.span(left)}"
    caption(ax, "", "blocks: ◂ saved by the cache | cost ▸", "", note)
    headline(ax, scores.finding, 60, pad=24)
    for label, score in zip(ax.get_yticklabels(), shown, strict=True):
        label.set(fontweight=_weight(score is scores.chosen), color=INK)
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    return ax


def _weight(bold: bool) -> str:
    return "bold" if bold else "normal"


def _legend(ax: Axes) -> None:
    """Name the parts that occur, in the order in which they stand."""
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    kept = [name for name in _LOOKS if name in handles]
    if kept:
        look: dict[str, Any] = {"fontsize": 8, "frameon": False, "handlelength": 1.8, "columnspacing": 1.2}
        ax.legend([handles[n] for n in kept], kept, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(kept), **look)
