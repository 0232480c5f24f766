"""The card of a deployment is plain HTML that says everything in words, and trusts no name."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from typing import Any

import pytest

from dynlab.views.card import CardRow, card_html

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


def row(number: int = 0, **changes: Any) -> CardRow:
    values = {
        "service": "Worker",
        "worker": f"Worker-{number}",
        "instance_id": 7001 + number,
        "thread": f"dynlab-Worker-{number}",
        "state": "serving",
        "active": 2,
        "started_at": time.time() - 30,
    }
    return CardRow(**(values | changes))


def card(*rows: CardRow, **changes: Any) -> Page:
    values: dict[str, Any] = {
        "name": "Frontend",
        "state": "running",
        "url": "http://127.0.0.1:3000",
        "router_mode": "round-robin",
        "requests": 5,
        "rows": rows,
        "apis": {"fegenerate": ["prompt", "request_id"]},
    }
    return Page(card_html(**(values | changes)))


def test_it_says_what_runs_where_and_how() -> None:
    """Name, state, router, requests, address with a link to the API's page, and the route with its keys."""
    page = card(row())

    assert page.text.startswith("Frontend · running · router round-robin · 5 requests traced")
    assert "POST /fegenerate {prompt, request_id}" in page.text
    assert "http://127.0.0.1:3000/docs" in [attributes.get("href") for attributes in page.attributes]


def test_an_instance_is_a_row() -> None:
    """Service, instance, id, thread, state, load and age, under headings."""
    page = card(row(0), row(1, state="dead", active=0, started_at=time.time() - 600))

    assert [
        ["service", "instance", "id", "thread", "state", "active", "up"],
        ["Worker", "Worker-0", "7001", "dynlab-Worker-0", "● serving", "2", "30 s"],
        ["", "Worker-1", "7002", "dynlab-Worker-1", "✕ dead", "0", "10 min"],
    ] == page.rows


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
    assert shown == card(row(state=state)).rows[1][4]


def test_it_is_labelled_for_who_hears_it() -> None:
    """The group's label says the same as the head."""
    page = card(row(0), row(1))

    assert "group" == page.attributes[0]["role"]
    assert (
        "Deployment Frontend, running: 2 instances, router round-robin, 5 requests traced."
        == page.attributes[0]["aria-label"]
    )
    assert ["col"] * 7 == [attributes["scope"] for attributes in page.attributes if "scope" in attributes]


def test_many_instances_are_summed_up() -> None:
    """Twelve rows a service, and one that says how many more there are and how busy."""
    page = card(*[row(n) for n in range(64)], row(0, service="Other", worker="Other-0"))

    assert 1 + 12 + 1 + 1 == len(page.rows)
    assert ["", "… and 52 more", "", "", "", "104", ""] == page.rows[13]
    assert "Other" == page.rows[14][0]


def test_a_closed_deployment_has_no_link() -> None:
    """Nobody answers there."""
    page = card(state="closed")

    assert "a" not in page.tags
    assert "table" not in page.tags
    assert "Frontend · closed" in page.text


def test_a_graph_without_http_has_no_link() -> None:
    """A worker alone has instances and no address."""
    page = card(row(), url=None, apis={})

    assert "a" not in page.tags
    assert "Worker-0" in page.text


def test_names_are_text_and_nothing_else() -> None:
    """What a reader names things cannot become markup, in text or in attributes."""
    evil = "<script>alert('x')</script>\"&"

    page = card(
        row(service=evil, worker=evil, thread=evil, state=evil),
        name=evil,
        router_mode=evil,
        apis={evil: [evil]},
        url=f"http://{evil}",
    )

    assert "script" not in page.tags
    assert page.text.count(evil) == 9
    assert evil in str(page.attributes[0]["aria-label"])
