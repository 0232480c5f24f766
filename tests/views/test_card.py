"""The card of a deployment is plain HTML that says everything in words, and trusts no name."""

from __future__ import annotations

import json
import shlex
import time
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.runtime.discovery import Discovery
from dynlab.views.card import RECENT, SHOWN, CardRow, CardTier, card_html
from dynlab.views.traces import Traces

VOID = {"br", "hr", "img", "input", "meta", "link"}


class Page(HTMLParser):
    """Reads HTML strictly: tags, labels, links and the text of cells; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert [] == self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.stack or "th" in self.stack:
            self.rows[-1][-1] += data


NOW = time.mktime((2025, 11, 24, 14, 5, 11, 0, 0, -1))


@pytest.fixture(autouse=True)
def at_five_past_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be 14:05:11."""
    monkeypatch.setattr("dynlab.views.card.time", SimpleNamespace(time=lambda: NOW))


def row(number: int = 0, **changes: Any) -> CardRow:
    values = {
        "worker": f"Worker-{number}",
        "instance_id": 7001 + number,
        "thread": f"dynlab-Worker-{number}",
        "state": "serving",
        "active": 2,
        "started_at": NOW - 180,
    }
    return CardRow(**(values | changes))


def tier(
    name: str, *rows: CardRow, endpoints: tuple[str, ...] = ("generate",), calls: tuple[str, ...] = ()
) -> CardTier:
    return CardTier(name, [SimpleNamespace(name=n) for n in endpoints], [SimpleNamespace(name=n) for n in calls], rows)


def html(*rows: CardRow, **changes: Any) -> str:
    values: dict[str, Any] = {
        "name": "Frontend",
        "state": "running",
        "url": "http://127.0.0.1:3000",
        "router_mode": "round-robin",
        "apis": {"fegenerate": ["prompt", "request_id"]},
        "tiers": [tier("Frontend", row(worker="Frontend-0"), endpoints=(), calls=("Worker",)), tier("Worker", *rows)],
        "traces": Traces(),
    }
    return card_html(**(values | changes))


def card(*rows: CardRow, **changes: Any) -> Page:
    return Page(html(*rows, **changes))


def traced(
    *workers: str, outcome: str = "ok", traces: Traces | None = None, mode: str = "random", among: int = 2
) -> Traces:
    """Requests from the Frontend to one worker each, `among` so many that could be chosen."""
    traces = traces if traces is not None else Traces()
    for worker in workers:
        trace = traces.begin(f"r-{len(traces)}")
        front = trace.hop(None, "Frontend", "fegenerate")
        hop = trace.hop(front, "Worker", "generate")
        front.worker, hop.worker, hop.instance_id = "Frontend-0", worker, 7001
        others = (Candidate(7001 + n, f"Other-{n}", 0) for n in range(1, among))
        hop.decision = RoutingDecision(mode, 7001, (Candidate(7001, worker, 0), *others))
        for each in (front, hop):
            each.ended(outcome)
    return traces


def way(page: Page) -> str:
    """What the drawing of the tiers says to who hears it."""
    return next(str(given["aria-label"]) for given in page.attributes if given.get("role") == "img")


# ---------------------------------------------------------------------------- the head


def test_it_says_what_runs_since_when_and_where() -> None:
    """Name, state, age, address with a link to the API's page, router, requests."""
    page = card(row())

    assert page.text.startswith(
        "Frontend · ● running since 14:02:11 (3 min) · http://127.0.0.1:3000router round-robin · 0 requests traced"
    )
    assert "http://127.0.0.1:3000/docs" in [attributes.get("href") for attributes in page.attributes]
    assert "As of 14:05:11." in page.text


def test_it_says_how_requests_ended() -> None:
    """With the names of the errors."""
    traces = traced("Worker-0", "Worker-0")
    traced("Worker-0", outcome="StreamIncompleteError", traces=traces)
    traced("Worker-0", outcome="stopped", traces=traces)
    traced("Worker-0", outcome="running", traces=traces)

    page = card(row(), traces=traces)

    ends = "5 requests traced: ✓ 2 ok, ✕ 1 failed (StreamIncompleteError), ■ 1 stopped, ◌ 1 under way"
    assert ends in page.text
    assert "5 requests traced, 2 ok, 1 failed, 1 stopped, 1 under way." in str(page.attributes[0]["aria-label"])


def test_of_many_requests_the_newest_are_counted() -> None:
    """And it says that it is so."""
    traces = traced("Worker-0", outcome="stopped")
    traced(*["Worker-0"] * RECENT, traces=traces)

    page = card(row(), traces=traces)

    assert f"{RECENT + 1} requests traced; of the newest {RECENT}: ✓ {RECENT} ok" in page.text
    assert "stopped" not in page.text


def test_it_is_labelled_for_who_hears_it() -> None:
    """The group's label says the same as the head, and every column has its name."""
    page = card(row(0), row(1))

    assert "group" == page.attributes[0]["role"]
    assert (
        "Deployment Frontend, running: 3 instances, router round-robin, 0 requests traced."
        == page.attributes[0]["aria-label"]
    )
    assert ["col"] * 7 + ["row"] * 3 == [given["scope"] for given in page.attributes if "scope" in given]


def test_it_can_be_asked_by_a_line_that_is_copied() -> None:
    """A folded curl command, with a body that has the API's keys."""
    page = card(row(), url="http://[::1]:3000", apis={"fegenerate": ["prompt", "request_id"], "it's": ["n"]})
    lines = page.text[page.text.index("curl ") : page.text.index("As of")].splitlines()

    words = [shlex.split(line) for line in lines]

    assert "Ask it: POST /fegenerate {prompt, request_id}, POST /it's {n}" in page.text
    assert ["http://[::1]:3000/fegenerate", "http://[::1]:3000/it's"] == [line[2] for line in words]
    assert [["prompt", "request_id"], ["n"]] == [list(json.loads(line[-1])) for line in words]
    assert {"details", "summary", "pre"} <= set(page.tags)


def test_a_closed_deployment_has_no_link() -> None:
    """Nobody answers there; how its requests ended is still to be read."""
    page = card(row(state="closed"), state="closed", traces=traced("Worker-0"))

    assert {"a", "table", "pre"}.isdisjoint(page.tags)
    assert "Frontend · ○ closed" in page.text
    assert "✓ 1 ok" in page.text
    assert "Run the cell with serve(…) to start it again." in page.text


def test_a_graph_without_http_has_no_link() -> None:
    """A worker alone has instances, no address, and nobody who asks from outside."""
    page = card(url=None, apis={}, tiers=[tier("Worker", row())])

    assert {"a", "pre"}.isdisjoint(page.tags)
    assert "Worker-0" in page.text
    assert "client" not in page.text


# ---------------------------------------------------------------------------- the tiers


def test_the_tiers_are_drawn_in_the_order_of_the_way() -> None:
    """Client, Frontend, workers; an arrow has the endpoint, and the router mode where there is a choice."""
    page = card(row(0), row(1))

    assert "The way of a request: Frontend by POST /fegenerate: 1 instance; Worker by generate: 2 instances." == way(
        page
    )
    drawing = page.text[: page.text.index("instanceid")]
    assert drawing.index("client") < drawing.index("generate") < drawing.rindex("Worker")
    assert "round-robin" in drawing[drawing.index("client") :]
    assert "round-robin" not in card(row(0)).text.partition("client")[2]  # one worker: no choice


def test_an_arrow_has_the_rule_of_the_last_pick() -> None:
    """Which may be another one than the deployment's, and is not that of a client outside the graph."""
    traces = traced("Worker-0", mode="random")
    outside = traces.begin("by hand")
    hop = Hop(None, "Worker", "generate")
    hop.instance_id, hop.decision = 7001, RoutingDecision("direct", 7001, (Candidate(7001, "Worker-0", 0),))
    outside.hops.append(hop)

    assert "last by random" in card(row(0), traces=traces).text
    assert "last by mine()" in card(row(0), traces=traced("Worker-0", mode="mine")).text


@pytest.mark.parametrize("mode", ["random", "mine"])
def test_an_arrow_to_the_only_one_has_no_rule(mode: str) -> None:
    """Nobody chose: neither the deployment's mode stands there, nor that of the last pick."""
    traces = traced("Worker-0", mode=mode, among=1)

    drawing = card(row(0), traces=traces, router_mode="kv").text.partition("client")[2]

    assert mode not in drawing
    assert "kv" not in drawing
    assert "last by" not in card(row(0), row(1), traces=traces).text  # a second one came, and was not asked yet


def test_a_box_has_a_mark_an_instance_or_their_numbers() -> None:
    """Who is dead is seen at once, also among many."""
    few = card(row(0), row(1, state="dead"), row(2, state="draining"))
    many = card(*[row(n, state="dead" if n == 1 else "serving") for n in range(64)])

    assert "●✕◑6 active" in few.text
    assert "63 ●  1 ✕128 active" in many.text


def test_a_service_that_two_others_call_stands_behind_both() -> None:
    """Boxes of one column stand one above the other, and an arrow says whose it is."""
    page = card(
        tiers=[
            tier("Front", row(), endpoints=(), calls=("A", "B")),
            tier("B", row(), calls=("Last",)),
            tier("A", row(), calls=("Last",)),
            tier("Last", row()),
        ],
    )

    assert "A / B: generate" in page.text or "B / A: generate" in page.text
    assert 1 == page.text.count("client")


def test_what_no_edge_leads_to_is_drawn_once_the_traces_know() -> None:
    """A service that is called through the runtime only."""
    alone = [tier("Frontend", row(), endpoints=()), tier("Worker", row())]

    assert "Worker: 1 instance" in way(card(tiers=alone))
    assert "Worker by generate: 1 instance" in way(card(tiers=alone, traces=traced("Worker-0")))


def test_a_tier_without_instances_says_so() -> None:
    """After `scale(worker, 0)`."""
    assert "Workerno instance" in card().text


# ---------------------------------------------------------------------------- the instances


def test_an_instance_is_a_row() -> None:
    """Name, id, state, load, requests with their share, age and thread, under headings."""
    traces = traced("Worker-0", "Worker-0", "Worker-0", "Worker-1")

    page = card(row(0), row(1, active=0), traces=traces)

    assert [
        ["instance", "id", "state", "active", "requests", "since", "thread"],
        ["Frontend-0", "7001", "● serving", " 2", " 4 100 %", "14:02:11 (3 min)", "dynlab-Worker-0"],
        ["Worker-0", "7001", "● serving", " 2", " 3 75 %", "14:02:11 (3 min)", "dynlab-Worker-0"],
        ["Worker-1", "7002", "● serving", " 0", " 1 25 %", "14:02:11 (3 min)", "dynlab-Worker-1"],
    ] == page.rows


def test_a_dead_instance_says_since_when_and_who_still_believes_in_it() -> None:
    """Struck through; listed until its lease lapses; what it left unanswered has failed."""
    dead = row(0, state="dead", active=0, died_at=NOW - 3, listed_s=7.2)
    traces = traced("Worker-0", outcome="WorkerUnavailableError")

    page = card(dead, row(1), traces=traces)

    assert ["✕ dead", " 0", " 1 100 %✕ 1 failed", "14:05:08 (3 s)still listed for 7 s"] == page.rows[2][2:6]
    assert 1 == page.tags.count("s")
    assert "listed" not in card(row(0, state="dead", died_at=NOW - 300)).text


def test_the_lease_dates_a_death() -> None:
    """A killed instance stops renewing it."""
    discovery = Discovery(ttl_s=10.0, clock=VirtualClock(100.0))
    lease = discovery.grant()
    instance: Any = SimpleNamespace(
        **{name: getattr(row(state="dead"), name) for name in ("worker", "instance_id", "state", "active")},
        started_at=NOW - 180,
        thread=SimpleNamespace(name="dynlab-Worker-0"),
        runtime=SimpleNamespace(lease=lease),
    )
    alive = CardRow.of(instance, discovery)
    discovery.lapse(lease)
    discovery.clock.advance(4.0)  # type: ignore[attr-defined]
    dead = CardRow.of(instance, discovery)
    discovery.clock.advance(40.0)  # type: ignore[attr-defined]

    assert (None, 0.0) == (alive.died_at, alive.listed_s)
    assert (NOW - 4, 6.0) == (dead.died_at, dead.listed_s)
    assert (NOW - 44, 0.0) == ((late := CardRow.of(instance, discovery)).died_at, late.listed_s)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("serving", "● serving"),
        ("starting", "◌ starting"),
        ("draining", "◑ draining"),
        ("dead", "✕ dead"),
        ("x", "? x"),
    ],
)
def test_a_state_is_a_mark_and_a_word(state: str, shown: str) -> None:
    """Not a colour alone."""
    assert shown == card(row(state=state)).rows[2][2]


def test_of_many_instances_the_first_are_shown() -> None:
    """The others are folded below their sum; dead ones, which may be many, come last."""
    rows = [row(n, state="dead" if n < 3 else "serving", active=0 if n < 3 else 2) for n in range(64)]

    page = card(*rows, traces=traced("Worker-63"))

    assert 1 + 1 + SHOWN + 1 + (64 - SHOWN) == len(page.rows)
    assert "Worker-3" == page.rows[2][0]
    assert "… and 52 more Worker · ● 49 serving · ✕ 3 dead · 98 active · 1 request" in page.text
    assert "Worker-2" == page.rows[-1][0]
    assert 2 == page.tags.count("details")


# ---------------------------------------------------------------------------- anywhere


def test_names_are_text_and_nothing_else() -> None:
    """What a reader names things cannot become markup, in text or in attributes."""
    evil = "<script>alert('x')</script>\"&"

    page = card(
        name=evil,
        router_mode=evil,
        apis={evil: [evil]},
        url=f"http://{evil}",
        tiers=[
            tier(evil, row(worker=evil, thread=evil, state=evil), calls=("two",)),
            tier("two", row(), row(1), endpoints=(evil,)),
        ],
        traces=traced(evil, outcome=evil, mode=evil),
    )

    assert "script" not in page.tags
    assert page.text.count(evil) > 9
    assert evil in str(page.attributes[0]["aria-label"])


def test_a_card_lives_through_what_notebooks_take_out() -> None:
    """JupyterLab drops these from a notebook that is not trusted; GitHub drops every style."""
    shown = html(*[row(n, state="dead") for n in range(20)], traces=traced("Worker-0"))

    assert {"svg", "style", "script", "link", "iframe"}.isdisjoint(Page(shown).tags)
    assert "var(" not in shown
    assert "currentColor" not in shown
