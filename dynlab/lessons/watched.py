"""A reader's pick function in a race: what it is shown, what is wrong with what it returns, and what it looks at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter_ns
from typing import Any, NamedTuple

from dynlab.errors import listed
from dynlab.lessons.exercise import call, shown
from dynlab.protocols import Envelope, Instance

__all__ = ("Fault", "Remark", "Watched", "remarks_on")

BLIND, BUSY = -0.46, 0.15
"""From the first on a rule looks at no load, from the second on it likes the busy ones. Least-loaded leans to the idle
by all it can, -1, two choices by half of it, lots not at all; and round robin by 0.4, as the next in turn has rested.
"""
HOT = 0.35
"""Of the requests: where one of eight workers gets such a share of a hot prefix, it is too hot."""
TIES = 50
"""So many ties, and all to the first, are no accident."""

_runs = count()


class Remark(NamedTuple):
    """A mistake that was foreseen, by its name, and what the reader is told."""

    name: str
    said: str


class Fault(Exception):
    """Ends a race: the function cannot route."""

    def __init__(self, name: str, said: str) -> None:
        self.remark = Remark(name, said)
        super().__init__(said)


class Watched:
    """The function in one run. It sees the instances as copies whose ids are new in each run, as after a restart."""

    def __init__(self, pick: Callable[..., Any], scenario: str) -> None:
        self._pick = pick
        self.__name__ = getattr(pick, "__name__", "pick")
        self.scenario = scenario
        self._ids = 100 * next(_runs)  # added to those of the run
        self._copies: dict[int, Instance] = {}
        self.took_ns: list[int] = []
        self.picked: Counter[str] = Counter()
        self.leaned = self.could_lean = 0.0
        self.ties = self.ties_to_first = 0

    def __call__(self, request: Envelope, instances: Sequence[Instance]) -> Instance:
        """Let the function pick.

        Raises:
            Fault: if what it returns, or does, is wrong.
        """
        given = tuple(self._copy(instance) for instance in instances)
        loads = [instance.active_requests for instance in instances]
        begun = perf_counter_ns()
        got = call(self._pick, request, given, given=f"request, {len(given)} instances")
        self.took_ns.append(perf_counter_ns() - begun)
        place = self._place(got, given)
        if [copy.active_requests for copy in given] != loads:
            said = "It changed `active_requests` of an instance. The router counts what it sends and what ends; "
            raise Fault("changes the instances", f"{said}keep numbers of your own in a dict.")
        self._note(place, loads, instances[place])
        return instances[place]

    def _copy(self, instance: Instance) -> Instance:
        copy = self._copies.get(instance.instance_id)
        if copy is None:
            own_id = instance.instance_id + self._ids
            copy = Instance(instance.endpoint, own_id, instance.worker, device=instance.device)
            self._copies[instance.instance_id] = copy
        copy.active_requests = instance.active_requests
        return copy

    def _place(self, got: Any, given: Sequence[Instance]) -> int:
        ids = [copy.instance_id for copy in given]
        for place, copy in enumerate(given):
            if got is copy or (type(got) is int and got == ids[place]):
                return place
        where = f'In "{self.scenario}" it returned'
        if got is None:
            raise Fault("returns nothing", f"{where} None. Every way through it should end in `return`.")
        if type(got) is int and 0 <= got < len(ids):
            said = f"{where} {got}, a place in the list. Return `instances[{got}]`, or an id: {ids[got]}."
            raise Fault("returns a place", said)
        named = got.instance_id if type(got) is Instance else got
        if type(named) is int:
            raise Fault(
                "remembers who is gone",
                f"{where} {named}, which is not there; there were {listed(ids)}. Workers die, and all of them have new "
                "ids after a restart, as in each run here. Pick from the instances you are given.",
            )
        raise Fault("returns something else", f"{where} {shown(got)}. Return one of `instances`, or its id.")

    def _note(self, place: int, loads: Sequence[int], chosen: Instance) -> None:
        self.picked[chosen.worker] += 1
        mean, least = sum(loads) / len(loads), min(loads)
        self.leaned += loads[place] - mean
        self.could_lean += mean - least
        if loads.count(loads[place]) > 1:
            self.ties += 1
            self.ties_to_first += loads.index(loads[place]) == place


def remarks_on(runs: Sequence[Watched]) -> tuple[Remark, ...]:
    """Say what the function looked at in its runs, as far as it is a mistake."""
    plain = [run for run in runs if run.scenario == "steady"]
    only = {worker for run in plain for worker in run.picked}
    if len(only) == 1:
        return (Remark("always the same worker", f"All requests went to {only.pop()}, while the others were idle."),)
    could = sum(run.could_lean for run in plain)
    leaning = sum(run.leaned for run in plain) / could if could else 0.0
    if leaning > BUSY:
        said = "It prefers workers that have much to do. The fewest `active_requests` should win: `min`, not `max`."
        return (Remark("prefers the busy", said),)
    if leaning > BLIND:
        said = "It does not look at the load: each instance has `active_requests`."
        return (Remark("ignores the load", said),)
    hot = [max(run.picked.values()) / run.picked.total() for run in runs if run.scenario == "hot prefix"]
    if max(hot, default=0.0) > HOT:
        said = f"With the hot prefix, one worker got {max(hot):.0%} of the requests: more than it can serve. "
        return (Remark("one home for all of a family", f"{said}Let a family have more homes when one is busy."),)
    ties, to_first = (sum(getattr(run, name) for run in plain) for name in ("ties", "ties_to_first"))
    if ties > TIES and ties == to_first:
        said = "Of several with equally few requests it always takes the first: draw one, as `least-loaded` does."
        return (Remark("ties go to the first", said),)
    return ()
