"""Instances that are kept by their load, so that the least loaded of thousands is found without a look at each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from dynlab.protocols import Instance

__all__ = ("Fleet", "Group")


class Group:
    """Instances of one kind, in a list for each load. `total` is how many requests they have together."""

    __slots__ = ("_by_load", "_place", "least", "size", "total")

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.size = len(instances)
        self.total = sum(instance.active_requests for instance in instances)
        self.least = min(instance.active_requests for instance in instances)
        most = max(instance.active_requests for instance in instances)
        self._by_load: list[list[Instance]] = [[] for _ in range(most + 1)]
        self._place: dict[int, int] = {}  # of each instance in its list
        for instance in instances:
            there = self._by_load[instance.active_requests]
            self._place[instance.instance_id] = len(there)
            there.append(instance)

    @property
    def tied(self) -> list[Instance]:
        """Those with the fewest requests."""
        return self._by_load[self.least]

    def change(self, instance: Instance, by: int) -> None:
        """One of them has so many requests more, or less."""
        by_load, places = self._by_load, self._place
        load = instance.active_requests
        here = by_load[load]
        last = here.pop()
        if last is not instance:  # the last one takes its place
            place = places[last.instance_id] = places[instance.instance_id]
            here[place] = last
        instance.active_requests = load = load + by
        while load >= len(by_load):
            by_load.append([])
        there = by_load[load]
        places[instance.instance_id] = len(there)
        there.append(instance)
        self.total += by
        if load < self.least:
            self.least = load
        while not by_load[self.least]:
            self.least += 1


class Fleet(Sequence[Instance]):
    """Instances, sorted by id, whose loads change only by `add`, `release` and `report`. One thread's own.

    `cpus` and `others` are the two kinds, as "device-aware-weighted" sees them; None where there is none of a kind.
    """

    __slots__ = ("_instances", "cpus", "others")

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances = tuple(instances)
        cpus = [instance for instance in self._instances if instance.device == "cpu"]
        others = [instance for instance in self._instances if instance.device != "cpu"]
        self.cpus = Group(cpus) if cpus else None
        self.others = Group(others) if others else None

    def __len__(self) -> int:
        return len(self._instances)

    @overload
    def __getitem__(self, place: int) -> Instance: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Instance]: ...
    def __getitem__(self, place: int | slice) -> Instance | Sequence[Instance]:
        return self._instances[place]

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._instances)

    def add(self, instance: Instance) -> None:
        """A request was sent to one of them."""
        self._group(instance).change(instance, 1)

    def release(self, instance: Instance) -> None:
        """A request there has ended."""
        self._group(instance).change(instance, -1)

    def report(self, instance: Instance, load: int) -> None:
        """One of them says how many requests it has."""
        self._group(instance).change(instance, load - instance.active_requests)

    def least_loaded(self, rng: random.Random) -> tuple[Instance, int]:
        """Draw one of those with the fewest requests, all equally likely; also say how many they are."""
        cpus, others = self.cpus, self.others
        if cpus is None or others is None:
            tied = (cpus or others).tied  # type: ignore[union-attr]
        elif cpus.least == others.least:
            tied = cpus.tied + others.tied
        else:
            tied = min(cpus, others, key=_least).tied
        return tied[int(rng.random() * len(tied))], len(tied)

    def _group(self, instance: Instance) -> Group:
        group = self.cpus if instance.device == "cpu" else self.others
        assert group is not None
        return group


def _least(group: Group) -> int:
    return group.least
