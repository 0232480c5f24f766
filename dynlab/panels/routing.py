"""Panels with buttons (ipywidgets): they run what they are given, and paint how far it is while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import ipywidgets

from dynlab.routing.modes import PLAIN_MODES, RouterMode
from dynlab.views.style import MODES, mode_style

__all__ = ("RoutingPanel", "RoutingRun", "bars_html")

PAINT_EVERY_S = 0.1
JOIN_S = 10.0
MAX_WORKERS, MAX_REQUESTS = 16, 2000


class RoutingRun(Protocol):
    """Requests under way, as the painter reads them; whoever makes them only writes plain state."""

    def counts(self) -> Mapping[str, int]:
        """Requests per worker so far, in the order of instance ids."""

    def finished(self) -> bool:
        """True once no request is under way any more."""

    def failures(self) -> int:
        """Requests that failed so far."""

    def close(self) -> None:
        """End everything that was started for this run."""


Start = Callable[[str, int, int], RoutingRun]
"""Starts a run of (mode, workers, requests)."""


def bars_html(mode: str, counts: Mapping[str, int], requests: int) -> str:
    """Draw a bar a worker, with its number; a dashed line stands where equal shares of all requests would end."""
    share = requests / len(counts) if counts else 0
    most = max([*counts.values(), share, 1])
    colour = mode_style(mode).colour
    rows = "".join(
        '<tr><th scope="row" style="text-align:left;font-weight:normal;padding:2px 10px 2px 0;white-space:nowrap">'
        f'{escape(worker)}</th><td style="width:100%;padding:2px 0"><div style="position:relative;height:16px">'
        f'<div style="position:absolute;left:0;top:0;bottom:0;width:{100 * count / most:.1f}%;background:{colour}">'
        f'</div><div style="position:absolute;left:{100 * share / most:.1f}%;top:-3px;bottom:-3px;'
        'border-left:1px dashed currentColor"></div></div></td>'
        f'<td style="text-align:right;padding:2px 0 2px 10px;min-width:3em">{count}</td></tr>'
        for worker, count in counts.items()
    )
    label = f"Requests per worker, {mode}: " + ", ".join(f"{worker} {count}" for worker, count in counts.items())
    head = (
        f'<caption style="text-align:left;padding-bottom:4px">{sum(counts.values())} of {requests} requests sent to '
        f"a worker · dashed: equal shares, {share:.4g} each</caption>"
    )
    return f'<table aria-label="{escape(label)}" style="width:100%;border-collapse:collapse">{head}{rows}</table>'


class RoutingPanel:
    """Choose a router mode, a number of workers and of requests, press Run, and watch the bars.

    One thread a run, `dynlab-painter`, starts the run, paints at most ten times a second, and ends it. No other
    thread writes a widget. `state` says in words what the panel shows. The button stays enabled meanwhile, for a
    disabled one loses the keyboard's focus; a press during a run does nothing.
    """

    def __init__(self, start: Start, modes: Sequence[str] = PLAIN_MODES) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._painter: threading.Thread | None = None
        self._running = False
        self._closing = threading.Event()
        self.state = "Choose, then press Run."
        self.counts: dict[str, int] = {}
        look = {"style": {"description_width": "110px"}, "layout": {"width": "420px", "max_width": "98%"}}
        self.mode = ipywidgets.Dropdown(options=[str(mode) for mode in modes], description="router mode", **look)
        self.workers = ipywidgets.IntSlider(8, 1, MAX_WORKERS, description="workers", **look)
        self.requests = ipywidgets.IntSlider(800, 50, MAX_REQUESTS, 50, description="requests", **look)
        self.button = ipywidgets.Button(description="Run", button_style="primary", tooltip="send the requests")
        self._bars = ipywidgets.HTML(layout={"width": "640px", "max_width": "98%"})
        self._status = ipywidgets.HTML(_status(self.state))
        self.button.on_click(lambda _: self.press())
        self.view = ipywidgets.VBox(
            [self.mode, self.workers, self.requests, self.button, self._status, self._bars],
            layout={"border": "1px solid", "padding": "8px 12px", "width": "700px", "max_width": "100%"},
        )

    def press(self) -> bool:
        """Start a run, as the button does; False while one is under way. Returns at once, from any thread."""
        with self._lock:
            if self._closing.is_set() or self._running:
                return False
            self._running = True
            wanted = (
                self.mode.value if self.mode.value in MODES else RouterMode.ROUND_ROBIN.value,
                _between(self.workers.value, 1, MAX_WORKERS),
                _between(self.requests.value, 1, MAX_REQUESTS),
            )
            before = self._painter
            self._painter = threading.Thread(
                target=self._run, args=(before, *wanted), name="dynlab-painter", daemon=True
            )
            self._painter.start()
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the run under way; False if it goes on after `timeout` seconds."""
        painter = self._painter
        if painter is not None and painter is not threading.current_thread():
            painter.join(timeout)
        return painter is None or not painter.is_alive()

    def close(self) -> None:
        """End the run under way, if there is one, and start no other."""
        if self._closing.is_set():
            return
        self._closing.set()
        self.wait(JOIN_S)
        self.button.disabled = True
        self._say(f"{self.state} The panel is closed; run its cell again for a new one.")

    # -- the painter's thread -----------------------------------------------------------------------------------

    def _run(self, before: threading.Thread | None, mode: str, workers: int, requests: int) -> None:
        if before is not None:
            before.join()  # it has only its last lines to go; two painters never meet
        try:
            self._say(f"Running: {mode}, {requests} requests to {workers} workers.")
            run = self._start(mode, workers, requests)
            try:
                end = self._follow(run, mode, requests)
            finally:
                run.close()
        except Exception as error:  # told where the reader looks; there is no cell to raise in
            end = f"The run failed. {type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._running = False
        self._say(end)  # last: whoever reads it may press again

    def _follow(self, run: RoutingRun, mode: str, requests: int) -> str:
        """Paint until the run is over, and return how it ended."""
        finished = False
        while not finished:
            # Read first whether it is over, then how far it is: so the last picture is the final one.
            finished = run.finished() or self._closing.wait(PAINT_EVERY_S)
            self.counts = dict(run.counts())
            self._bars.value = bars_html(mode, self.counts, requests)
        values = list(self.counts.values()) or [0]
        failed = f", {run.failures()} failed" if run.failures() else ""
        ended = "Stopped" if self._closing.is_set() else "Done"
        return (
            f"{ended}: {mode} sent {sum(values)} requests to {len(values)} workers{failed}; "
            f"fewest {min(values)}, most {max(values)}."
        )

    def _say(self, state: str) -> None:
        self.state = state
        self._status.value = _status(state)

    # -- showing it ---------------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.view._repr_mimebundle_(**kwargs)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        # What a page shows that has no kernel: the last picture instead of dead buttons.
        data["text/html"] = _status(self.state) + bars_html(
            str(self.mode.value), self.counts, sum(self.counts.values())
        )
        data["text/plain"] = repr(self)
        return data

    def __repr__(self) -> str:
        return f"<RoutingPanel: {self.state}>"


def _status(state: str) -> str:
    # A screen reader says each change of this line, so the numbers that move stand above the bars.
    return f'<div role="status" aria-live="polite">{escape(state)}</div>'


def _between(value: Any, low: int, high: int) -> int:
    """Read a number that a page sent; what is none becomes the lowest."""
    try:
        return min(max(int(value), low), high)
    except (TypeError, ValueError, OverflowError):
        return low
