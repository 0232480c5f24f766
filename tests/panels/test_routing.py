"""The routing panel paints from one thread, tells the truth, and leaves nothing running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dynlab.lessons.panel import routing_panel
from dynlab.panels.routing import MAX_REQUESTS, MAX_WORKERS, RoutingPanel, bars_html


class Scripted:
    """A run that goes on when the test says so."""

    def __init__(self, mode: str, workers: int, requests: int) -> None:
        self.wanted = (mode, workers, requests)
        self.sent = dict.fromkeys((f"DummyWorker-{n}" for n in range(workers)), 0)
        self.over = threading.Event()
        self.closed = 0
        self.read_by: set[str] = set()

    def counts(self) -> Mapping[str, int]:
        self.read_by.add(threading.current_thread().name)
        return self.sent

    def finished(self) -> bool:
        return self.over.is_set()

    def failures(self) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1


class Stage:
    """A panel with scripted runs, and a record of who wrote which widget."""

    def __init__(self) -> None:
        self.runs: list[Scripted] = []
        self.started = threading.Event()
        self.writers: set[str] = set()
        self.paints: list[float] = []
        self.panel = RoutingPanel(self.start)
        for widget, trait in (
            (self.panel._bars, "value"),
            (self.panel._status, "value"),
            (self.panel.button, "disabled"),
        ):
            widget.observe(lambda _: self.writers.add(threading.current_thread().name), trait)
        self.panel._bars.observe(lambda _: self.paints.append(time.monotonic()), "value")

    def start(self, mode: str, workers: int, requests: int) -> Scripted:
        run = Scripted(mode, workers, requests)
        self.runs.append(run)
        self.started.set()
        return run


@pytest.fixture
def stage() -> Any:
    stage = Stage()
    yield stage
    stage.panel.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 5
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        tick.wait(0.005)


def test_a_press_runs_what_is_chosen(stage: Stage) -> None:
    """Mode, workers and requests go to the run, which is closed once at its end."""
    stage.panel.mode.value, stage.panel.workers.value, stage.panel.requests.value = "random", 3, 150

    assert stage.panel.press()
    stage.started.wait(5)
    stage.runs[0].over.set()

    assert stage.panel.wait(5)
    assert ("random", 3, 150) == stage.runs[0].wanted
    assert 1 == stage.runs[0].closed


def test_only_the_painter_writes(stage: Stage) -> None:
    """Bars and state line change in the painter's thread alone, runs are read there, and the button never changes."""
    stage.panel.button.click()
    stage.started.wait(5)
    stage.runs[0].sent["DummyWorker-0"] = 5
    until(lambda: bool(stage.paints))
    stage.runs[0].over.set()
    stage.panel.wait(5)

    assert {"dynlab-painter"} == stage.writers
    assert {"dynlab-painter"} == stage.runs[0].read_by


def test_it_paints_ten_times_a_second_at_most(stage: Stage) -> None:
    """However fast the counts move, paints are a tenth of a second apart but for the final one."""
    stage.panel.press()
    stage.started.wait(5)

    def moved() -> bool:
        stage.runs[0].sent["DummyWorker-0"] += 1
        return len(stage.paints) >= 6

    until(moved)
    stage.runs[0].over.set()
    stage.panel.wait(5)

    gaps = [later - sooner for sooner, later in zip(stage.paints[:-1], stage.paints[1:-1], strict=False)]
    assert min(gaps) > 0.09


def test_the_final_state_is_painted(stage: Stage) -> None:
    """What happened right before the end is in the last picture and in the words."""
    stage.panel.mode.value, stage.panel.workers.value = "direct", 2
    stage.panel.press()
    stage.started.wait(5)
    stage.runs[0].sent["DummyWorker-0"] = 777
    stage.runs[0].over.set()
    stage.panel.wait(5)

    assert "DummyWorker-0 777, DummyWorker-1 0" in stage.panel._bars.value
    assert "Done: direct sent 777 requests to 2 workers; fewest 0, most 777." == stage.panel.state
    assert stage.panel.state in stage.panel._status.value
    assert 'aria-live="polite"' in stage.panel._status.value
    assert stage.panel.counts == {"DummyWorker-0": 777, "DummyWorker-1": 0}


def test_a_press_while_it_runs_does_nothing(stage: Stage) -> None:
    """The button stays enabled, so that the keyboard's focus stays; a second press starts nothing until the end."""
    assert stage.panel.press()
    stage.started.wait(5)

    assert not stage.panel.button.disabled
    assert not stage.panel.press()
    assert "Running: round-robin, 800 requests to 8 workers." == stage.panel.state

    stage.runs[0].over.set()
    stage.panel.wait(5)
    assert not stage.panel.button.disabled
    assert stage.panel.press()
    until(lambda: len(stage.runs) == 2)
    stage.runs[1].over.set()
    assert stage.panel.wait(5)


def test_the_end_is_told_when_a_press_works_again(stage: Stage) -> None:
    """It says "Running" until the run is closed, and a press in answer to "Done" starts the next one."""
    pressed: list[bool] = []
    stage.panel._status.observe(
        lambda change: pressed.append(stage.panel.press()) if "Done" in change["new"] and not pressed else None, "value"
    )
    stage.panel.press()
    stage.started.wait(5)
    said: list[str] = []
    stage.runs[0].close = lambda: said.append(stage.panel.state)  # type: ignore[method-assign]
    stage.runs[0].over.set()
    until(lambda: len(stage.runs) == 2)

    assert ["Running: round-robin, 800 requests to 8 workers."] == said
    assert [True] == pressed
    stage.runs[1].over.set()
    assert stage.panel.wait(5)


def test_a_callback_never_waits(stage: Stage) -> None:
    """A press returns at once, also from a thread that is not the main one, while the start takes its time."""
    hold = threading.Event()
    start = stage.panel._start
    stage.panel._start = lambda *wanted: (hold.wait(5), start(*wanted))[1]
    pressed: list[bool] = []
    subshell = threading.Thread(target=lambda: pressed.append(stage.panel.press()), name="subshell-1")

    subshell.start()
    subshell.join(1)

    assert [True] == pressed
    hold.set()
    until(lambda: bool(stage.runs))
    stage.runs[0].over.set()
    assert stage.panel.wait(5)


def test_presses_from_many_threads_start_one_run(stage: Stage) -> None:
    """Callbacks may come at once from the main thread and from subshells."""
    pressed: list[bool] = []
    threads = [threading.Thread(target=lambda: pressed.append(stage.panel.press())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False] * 7 + [True] == sorted(pressed)
    stage.started.wait(5)
    stage.runs[0].over.set()
    stage.panel.wait(5)
    assert 1 == len(stage.runs)


@pytest.mark.parametrize("value", [None, "many", float("inf"), -5, 10**9, [], float("nan")])
def test_bad_input_is_bounded(stage: Stage, value: Any) -> None:
    """Whatever a page sends for a number, a run gets one within bounds."""
    stage.panel.workers = stage.panel.requests = type("Sent", (), {"value": value})()

    assert stage.panel.press()
    stage.started.wait(5)
    stage.runs[0].over.set()
    stage.panel.wait(5)

    _, workers, requests = stage.runs[0].wanted
    assert 1 <= workers <= MAX_WORKERS
    assert 1 <= requests <= MAX_REQUESTS


def test_a_run_that_cannot_start_is_told(stage: Stage) -> None:
    """The state line has the error, and the button works again."""

    def refuse(*wanted: Any) -> Any:
        raise OSError("no room <here>")

    stage.panel._start = refuse
    stage.panel.press()
    stage.panel.wait(5)

    assert "The run failed. OSError: no room <here>" == stage.panel.state
    assert "&lt;here&gt;" in stage.panel._status.value
    assert not stage.panel.button.disabled


def test_a_run_that_breaks_is_closed(stage: Stage) -> None:
    """An error while painting ends the run, and nothing is left."""
    stage.panel.press()
    stage.started.wait(5)
    stage.runs[0].sent = None  # type: ignore[assignment]
    stage.panel.wait(5)

    assert "The run failed. TypeError" in stage.panel.state
    assert 1 == stage.runs[0].closed


def test_close_ends_a_run(stage: Stage) -> None:
    """Closing does not wait for the requests, says so, and starts no other run; only now the button is disabled."""
    stage.panel.press()
    stage.started.wait(5)
    stage.panel.close()

    assert stage.panel.button.disabled

    assert stage.panel.state.startswith("Stopped: ")
    assert 1 == stage.panel.state.count("The panel is closed")
    assert 1 == stage.runs[0].closed
    assert not stage.panel.press()

    stage.panel.close()
    assert 1 == stage.panel.state.count("The panel is closed")


def test_bars_say_what_they_show() -> None:
    """Each bar has its number, its worker is escaped, and the whole has a label."""
    html = bars_html("random", {"a<b": 30, "c": 10}, 40)

    assert 'aria-label="Requests per worker, random: a&lt;b 30, c 10"' in html
    assert "width:100.0%" in html
    assert "width:33.3%" in html
    assert "40 of 40 requests sent to a worker · dashed: equal shares, 20 each" in html
    assert "a<b" not in html


def test_bars_of_nothing() -> None:
    """Before the first run there is a table without rows."""
    assert "<td" not in bars_html("random", {}, 0)


def test_it_shows_without_widgets_too(stage: Stage) -> None:
    """Beside the widget stands HTML with the last picture, and a text."""
    data = stage.panel._repr_mimebundle_()

    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= set(data)
    assert "Choose, then press Run." in data["text/html"]
    assert "<RoutingPanel: Choose, then press Run.>" == data["text/plain"]


@pytest.mark.parametrize(
    ("mode", "counts"), [("round-robin", [50, 50, 50, 50]), ("direct", [200, 0, 0, 0]), ("power-of-two", None)]
)
def test_real_requests(mode: str, counts: list[int] | None) -> None:
    """Each run serves a graph of its own, sends real requests, and closes it."""
    panel = routing_panel(seed=7)
    panel.mode.value, panel.workers.value, panel.requests.value = mode, 4, 200

    panel.press()
    assert panel.wait(30)

    assert 200 == sum(panel.counts.values()), panel.state
    assert panel.state.startswith(f"Done: {mode} sent 200 requests to 4 workers; fewest ")
    assert counts is None or counts == list(panel.counts.values())
    assert [] == [t.name for t in threading.enumerate() if t.name.startswith("dynlab-")]
