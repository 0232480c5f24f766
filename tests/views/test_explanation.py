"""An explanation says which rule chose whom among whom, and why, as text and as HTML with the same words."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.explanation import MAX_CANDIDATES, Explanation, reason, rule
from dynlab.views.traces import Trace, Traces
from dynlab.views.waterfall import spans_of
from tests.views.conftest import kv_decision

LOADS = (3, 1, 1, 5)


def decision(mode: str, chosen: int = 1, skipped: int | None = None, loads: tuple[int, ...] = LOADS, **detail: object):
    candidates = tuple(Candidate(7001 + n, f"Worker-{n}", load, n != skipped) for n, load in enumerate(loads))
    return RoutingDecision(mode, 7001 + chosen, candidates, detail)


MS = 1_000_000


def hop_of(
    parent: Hop | None,
    worker: str,
    endpoint: str,
    *,
    routed: float = 0,
    started: float = 0,
    ended: float = 0,
    outcome: str = "ok",
) -> Hop:
    """A hop with times in ms, from 1 ms on."""
    hop = Hop(parent, worker.rpartition("-")[0], endpoint)
    hop.worker, hop.outcome = worker, outcome
    hop.routed_ns, hop.started_ns = (int((1 + t) * MS) if t else 0 for t in (routed, started))
    hop.started_ns = hop.started_ns or (MS if parent is None else 0)
    hop.ended_ns = int((1 + ended) * MS)
    return hop


def trace(*decisions: RoutingDecision, outcomes: tuple[str, ...] = ()) -> Trace:
    """A request with these picks: each the next try of the one before it."""
    found = Trace("r-1")
    parent = hop_of(None, "Frontend-0", "fegenerate", started=0, ended=10)
    found.hops.append(parent)
    outcomes = outcomes or ("ok",) * len(decisions)
    for n, (each, outcome) in enumerate(zip(decisions, outcomes, strict=True), start=1):
        worker = next((c.worker for c in each.candidates if c.instance_id == each.instance_id), "Worker-9")
        hop = hop_of(parent, worker, "begenerate", routed=n, started=n, ended=n + 0.5, outcome=outcome)
        hop.instance_id, hop.decision = each.instance_id, each
        found.hops.append(hop)
    return found


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def html_of(*decisions: RoutingDecision, outcomes: tuple[str, ...] = ()) -> str:
    return Explanation.of(trace(*decisions, outcomes=outcomes))._repr_html_()


def rows_of(html: str) -> list[str]:
    return [text_of(row) for row in re.findall(r"<tr.*?</tr>", html)]


# ---------------------------------------------------------------------------- the reason


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            decision("round-robin", turn=5),
            "Worker-1 (id 7002): turn 6, counted round and round over 4 instances by their ids, falls on number 2.",
        ),
        (
            decision("round-robin", chosen=2, skipped=0, turn=4),
            "Worker-2 (id 7003): turn 5, counted round and round over 3 instances by their ids, falls on number 2.",
        ),
        (decision("random"), "Worker-1 (id 7002): drawn from 4 instances, all equally likely."),
        (decision("random", skipped=3), "Worker-1 (id 7002): drawn from 3 instances, all equally likely."),
        (
            decision("power-of-two", sampled=[7001, 7002]),
            (
                "Worker-1 (id 7002): drew 7001 (3 active) and 7002 (1 active); the one with fewer requests in flight "
                "wins, the first on a tie."
            ),
        ),
        (
            decision("least-loaded", tied=2),
            "Worker-1 (id 7002): 1 active is the fewest of 4 instances, drawn from 2 that tie.",
        ),
        (
            decision("least-loaded", loads=(3, 0), tied=1),
            "Worker-1 (id 7002): 0 active is the fewest of 2 instances.",
        ),
        (decision("direct"), "Worker-1 (id 7002): the caller named it."),
        (decision("random", chosen=0, loads=(2,)), "Worker-0 (id 7001): it was the only one that could be chosen."),
        (decision("direct", chosen=0, loads=(2,)), "Worker-0 (id 7001): the caller named it."),
        (decision("my_pick"), "Worker-1 (id 7002): the function my_pick() returned it."),
        (decision("<lambda>"), "Worker-1 (id 7002): the function <lambda>() returned it."),
        (decision("random", function=True), "Worker-1 (id 7002): the function random() returned it."),
    ],
    ids=lambda value: value.mode if isinstance(value, RoutingDecision) else None,
)
def test_each_rule_has_its_reason(made: RoutingDecision, sentence: str) -> None:
    """The sentence names what the rule looked at."""
    assert sentence == reason(made)


@pytest.mark.parametrize("mode", ["round-robin", "power-of-two", "least-loaded", "kv"])
def test_what_the_trace_does_not_say_is_not_made_up(mode: str) -> None:
    """A file that another version wrote has other details, or none."""
    made = decision(mode, later="detail")

    assert f"Worker-1 (id 7002): {mode} chose it, and the trace does not say what it looked at." == reason(made)
    assert "1. Worker.begenerate by" in repr(Explanation.of(trace(made)))
    assert f"because {mode}" in text_of(html_of(made))


@pytest.mark.parametrize(
    "made",
    [
        decision("power-of-two", sampled=[1, 7002]),
        decision("round-robin", chosen=40, turn=3),
        decision("least-loaded", chosen=0, loads=(), tied=0),
    ],
    ids=["drawn", "chosen", "nobody"],
)
def test_who_is_not_among_the_candidates_breaks_nothing(made: RoutingDecision) -> None:
    """In a damaged trace."""
    assert reason(made)
    assert repr(Explanation.of(trace(made)))
    assert html_of(made)


def test_a_function_called_like_a_mode_is_a_function() -> None:
    """Once its decision says so, in every place that names the rule."""
    made = decision("random", function=True)

    assert "random()" == rule(made)
    assert "begenerate by random(): ok" in repr(Explanation.of(trace(made)))
    assert "because random(): the function random() returned it." in text_of(html_of(made))
    assert "random" == rule(decision("random"))


# ---------------------------------------------------------------------------- as text


def test_as_text_it_lists_every_candidate() -> None:
    """The answer first, then the way with each stop's own time, then each pick with who could be chosen."""
    assert [
        "Request 'r-1' -> Worker-1: ok after 10.0 ms",
        "  Frontend-0 9.50 ms -> Worker-1 0.50 ms",
        "1. Worker.begenerate by round-robin: ok",
        "   Worker-1 (id 7002): turn 2, counted round and round over 3 instances by their ids, falls on number 2.",
        "      7001  Worker-0   3 active",
        "   -> 7002  Worker-1   1 active  chosen",
        "      7003  Worker-2  10 active",
        "      7004  Worker-3   5 active  skipped: it failed a moment ago",
    ] == repr(Explanation.of(trace(decision("round-robin", skipped=3, loads=(3, 1, 10, 5), turn=1)))).splitlines()


def test_without_a_choice_there_is_no_list() -> None:
    """One candidate is no question."""
    explanation = Explanation.of(trace(decision("random", chosen=0, loads=(2,))))

    assert "   Worker-0 (id 7001): it was the only one that could be chosen." == repr(explanation).splitlines()[-1]
    assert "<table" not in explanation._repr_html_()


@pytest.mark.parametrize("mode", ["random", "round-robin", "kv", "mine"])
@pytest.mark.parametrize("skipped", [False, True])
def test_where_only_one_could_be_chosen_no_rule_is_named(mode: str, skipped: bool) -> None:
    """A tier of one instance, or of two of which one has failed: nothing was drawn, and no turn was counted."""
    made = decision(mode, chosen=0, skipped=1 if skipped else None, loads=(2, 1) if skipped else (2,), turn=0)
    explanation = Explanation.of(trace(made))

    assert "1. Worker.begenerate: ok" in repr(explanation)
    assert "ok · 10.0 ms because it was the only one that could be chosen." in text_of(explanation._repr_html_())
    assert "Pick 1 of 1 : Worker.begenerate" in text_of(explanation._repr_html_())
    for shown in (repr(explanation), explanation._repr_html_()):
        assert not re.search(rf"{mode}|\bturn\b", shown)


def test_a_turn_and_its_place_are_both_counted_from_one() -> None:
    """Though the trace keeps Dynamo's turn, which counts from 0: turns 1 to 5 over 4 are numbers 1, 2, 3, 4, 1."""
    picks = [decision("round-robin", chosen=turn % 4, turn=turn) for turn in range(5)]

    numbers = [re.findall(r"turn (\d).* over 4 instances .* number (\d)", reason(made)) for made in picks]

    assert [[(str(turn), str(place))] for turn, place in zip(range(1, 6), [1, 2, 3, 4, 1], strict=True)] == numbers


def test_picks_stand_in_the_order_of_the_way() -> None:
    """A request that was tried twice has two picks; the Frontend, which nobody picked, has none."""
    explanation = Explanation.of(trace(decision("random", chosen=0), decision("random", chosen=3)))

    assert [7001, 7004] == [each.instance_id for each in explanation.decisions]
    assert 2 == repr(explanation).count(" active  chosen")


def test_a_request_that_nobody_routed_says_so() -> None:
    """An answer of the Frontend alone; and one that has only begun."""
    explanation = Explanation.of(trace())

    assert "Request 'r-1' -> Frontend-0: ok after 10.0 ms" == repr(explanation).splitlines()[0]
    assert "  Nobody had to be picked." == repr(explanation).splitlines()[-1]
    assert [] == explanation.decisions
    assert "nobody had to be picked." in text_of(explanation._repr_html_())
    assert "r-2 → nobody · ◌ under way" in text_of(Explanation.of(Trace("r-2"))._repr_html_())
    assert "Request 'r-2' -> nobody: under way for 0.00 ms" == repr(Explanation.of(Trace("r-2"))).splitlines()[0]


# ---------------------------------------------------------------------------- as HTML


def test_as_html_it_says_the_same() -> None:
    """Who, why, how it ended and how long it took first; then every candidate with its load as a bar and a number."""
    html = html_of(decision("least-loaded", skipped=3, tied=2))

    assert text_of(html).startswith(
        "r-1 → Worker-1 · ✓ ok · 10.0 ms "
        "because least-loaded: 1 active is the fewest of 3 instances, drawn from 2 that tie."
    )
    assert [
        "candidate id active at the pick",
        "Worker-0 7001 3",
        "➜ Worker-1 7002 1 chosen, tie",
        "Worker-2 7003 1 tie",
        "Worker-3 7004 5 skipped: it failed a moment ago",
    ] == rows_of(html)
    assert ["60%", "20%", "20%", "100%"] == re.findall(r"width:(\d+%);b", html[html.index("<table") :])
    assert 1 == html.count("<s>")


def test_it_is_labelled_for_who_hears_it() -> None:
    """The group says the answer, the drawing the way."""
    html = html_of(decision("random"))

    assert (
        'role="group" aria-label="Request r-1 went to Worker-1, because random: drawn from 4 instances, all equally '
        'likely. Outcome: ok after 10.0 ms."'
    ) in html
    assert 'role="img" aria-label="Its way: Frontend-0 9.50 ms, then Worker-1 0.50 ms."' in html


def test_the_way_has_the_times_of_the_plot(one_request: Trace) -> None:
    """Each stop's own; together they are the whole request."""
    html = Explanation.of(one_request)._repr_html_()
    own = [span.self_ms for span in spans_of(one_request)]

    times = [
        float(time) for time in re.findall(r"(\d+\.\d+) ms", re.findall(r'role="img" aria-label="([^"]*)"', html)[0])
    ]

    assert pytest.approx(own) == times
    assert pytest.approx(one_request.duration_ms) == sum(times)
    assert "POST /fegenerate ▶ Frontend-0" in text_of(html).replace("\xa0", "").replace("  ", " ")


def test_the_two_that_were_drawn_are_marked() -> None:
    """The others stand back; a tie is one among the two."""
    html = html_of(decision("power-of-two", chosen=2, sampled=[7003, 7002]))

    assert ["Worker-0 7001 3", "Worker-1 7002 1 drawn, tie", "➜ Worker-2 7003 1 chosen, drawn, tie"] == rows_of(html)[
        1:4
    ]
    assert 2 * 4 == html[html.index("<tbody") :].count("opacity:0.75")
    assert "tie" not in html_of(decision("power-of-two", sampled=[7001, 7002])).replace("the first on a tie", "")


def test_tries_stand_in_their_order_with_what_failed() -> None:
    """A request that a dead worker left unanswered went to another one."""
    html = html_of(
        decision("round-robin", chosen=0, turn=0),
        decision("round-robin", chosen=1, skipped=0, turn=1),
        outcomes=("WorkerUnavailableError", "ok"),
    )
    text = text_of(html)

    assert "Worker-0 , try 1 of 2 0.50 ms ✕ WorkerUnavailableError" in text
    assert "Worker-1 , try 2 of 2 0.50 ms" in text
    assert (
        "Pick 1 of 2 : Worker.begenerate by round-robin, try 1 of 2 · ✕ WorkerUnavailableError"
        " · Worker-0 (id 7001): turn 1,"
    ) in text
    assert "Pick 2 of 2 : Worker.begenerate by round-robin, try 2 of 2 candidate" in text
    assert "Worker-0 0.50 ms (WorkerUnavailableError), then Worker-1" in html
    assert "try" not in html_of(decision("random"), decision("random"))  # two calls, and no failure


def test_a_request_for_which_there_was_nobody_left() -> None:
    """The hop has no instance; the error says why."""
    found = trace()
    found.hops.append(hop_of(found.hops[0], "", "begenerate", ended=2, outcome="NoInstancesError"))
    found.hops[-1].service = "Worker"

    assert "r-1 → nobody" in text_of(Explanation.of(found)._repr_html_())
    assert "Worker (nobody) 0.00 ms (NoInstancesError)" in repr(Explanation.of(found))


def test_a_direct_call_may_name_who_has_failed() -> None:
    """That one is not skipped."""
    assert "➜ Worker-1 7002 1 chosen, it had failed a moment ago" in rows_of(html_of(decision("direct", skipped=1)))


@pytest.mark.parametrize("chosen", [0, MAX_CANDIDATES, 39])
def test_of_many_candidates_the_chosen_one_is_always_shown(chosen: int) -> None:
    """The list is cut, and says what is missing, but never hides the answer, nor who was drawn."""
    loads = (*([0] * 38), 4, 3)
    explanation = Explanation.of(
        trace(decision("power-of-two", chosen=chosen, loads=loads, sampled=[7001 + chosen, 7038]))
    )
    html = explanation._repr_html_()

    assert 1 == repr(explanation).count("\n   -> ")
    assert f"   -> {7001 + chosen}  Worker-{chosen} " in repr(explanation)
    assert 1 + MAX_CANDIDATES == len(rows_of(html))
    assert any(row.startswith(f"➜ Worker-{chosen} {7001 + chosen}") for row in rows_of(html))
    assert any(row.startswith("Worker-37 7038 0 drawn") for row in rows_of(html))
    assert f"… and 24 more candidates, 0 to {4} active" in repr(explanation)
    assert "… and 24 more candidates" in html


def test_names_are_text_and_nothing_else() -> None:
    """A function, a worker, an error and a request may be called anything; it cannot become markup."""
    evil = '<script>alert(1)</script>"&'
    candidates = (Candidate(7001, evil, 1), Candidate(7002, evil, 2), Candidate(7003, evil, 2, False))
    found = trace(RoutingDecision(evil, 7001, candidates), outcomes=(evil,))
    found.request_id = evil
    found.hops[0].worker = found.hops[0].endpoint = found.hops[1].service = found.hops[1].outcome = evil

    page = Explanation.of(found)._repr_html_()

    assert "<script" not in page
    assert text_of(page).count("<script>alert(1)</script>") > 9


def test_an_explanation_lives_through_what_notebooks_take_out() -> None:
    """JupyterLab drops these from a notebook that is not trusted."""
    html = html_of(decision("least-loaded", skipped=3, tied=2))

    assert not re.search(r"<(svg|style|script|link|iframe)|var\(|currentColor", html)


def test_a_saved_trace_explains_itself_again(tmp_path: Path) -> None:
    """What a file keeps of a decision is enough."""
    traces = Traces([trace(decision("power-of-two", sampled=[7001, 7002]), decision("least-loaded", tied=2))])

    loaded = Traces.load(traces.save(tmp_path / "traces.jsonl"))

    assert repr(Explanation.of(traces["r-1"])) == repr(Explanation.of(loaded["r-1"]))
    assert Explanation.of(traces["r-1"])._repr_html_() == Explanation.of(loaded["r-1"])._repr_html_()


# ---------------------------------------------------------------------------- by cost


def test_a_pick_by_cost_shows_how_each_cost_adds_up() -> None:
    """As text: one column below the other; the lowest cost and the fullest cache are noted."""
    made = kv_decision([2, 5, 8], [10, 5, 9], requests=[0, 1, 12])

    assert [
        (
            "   DummyWorker-1 (id 7002): cost 10 is the lowest of 3 workers: 5 of the prompt's 10 blocks are cached, "
            "5 to prefill, 5 to decode with."
        ),
        "      7001  DummyWorker-0   0 active  10 prefill - 2 credit + 10 decode = 18",
        "   -> 7002  DummyWorker-1   1 active  10 prefill - 5 credit +  5 decode = 10  chosen, lowest cost",
        "      7003  DummyWorker-2  12 active  10 prefill - 8 credit +  9 decode = 11  most cached",
    ] == repr(Explanation.of(trace(made))).splitlines()[3:]


def test_a_pick_by_cost_has_its_terms_as_columns() -> None:
    """As HTML: the bar is the cost."""
    html = html_of(kv_decision([2, 5, 8], [10, 5, 9]))

    assert [
        "candidate id active at the pick cached blocks prefill - credit + decode = cost",
        "DummyWorker-0 7001 0 2 10 2 10 18",
        "➜ DummyWorker-1 7002 0 5 10 5 5 10 chosen, lowest cost",
        "DummyWorker-2 7003 0 8 10 8 9 11 most cached",
    ] == rows_of(html)
    assert ["100%", "56%", "61%"] == re.findall(r"width:(\d+%);b", html[html.index("<table") :])
    assert "because kv: cost 10 is the lowest of 3 workers" in text_of(html)


def test_weights_for_requests_are_a_term_of_their_own() -> None:
    """Only where the router has them."""
    made = kv_decision([2, 5, 8], [10, 5, 9], requests=[0, 1, 12], weight=2)

    assert "7003  DummyWorker-2  12 active  10 prefill - 8 credit +  9 decode + 24 requests = 35" in (
        repr(Explanation.of(trace(made)))
    )
    assert "+ decode + requests = cost" in rows_of(html_of(made))[0]


def test_who_was_skipped_has_no_cost() -> None:
    """The router did not look at it: its cells are empty."""
    made = kv_decision([2, 5, 8], [10, 5, 9])
    skipped = RoutingDecision("kv", 7002, (*made.candidates, Candidate(7004, "DummyWorker-3", 2, False)), made.detail)

    assert "DummyWorker-3 7004 2 skipped: it failed a moment ago" == rows_of(html_of(skipped))[-1]
    assert "      7004  DummyWorker-3  2 active  skipped: it failed a moment ago" in repr(
        Explanation.of(trace(skipped))
    )


def test_of_many_costs_the_low_ones_are_shown() -> None:
    """With the chosen one, whatever it cost."""
    explanation = Explanation.of(trace(kv_decision([0] * 40, list(range(40, 0, -1)), chosen=1)))

    assert "   -> 7002  DummyWorker-1 " in repr(explanation)
    assert "tie" not in repr(explanation)
    assert "DummyWorker-39  0 active  10 prefill - 0 credit +  1 decode = 11  lowest cost" in repr(explanation)
    assert "… and 24 more candidates, cost 26 to 50" in repr(explanation)
    assert 1 + MAX_CANDIDATES == len(rows_of(explanation._repr_html_()))
