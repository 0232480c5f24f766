"""The router's modes (Dynamo: `lib/runtime/src/pipeline/network/egress/push_router.rs` and its picker).

A picker looks at a request and at the instances that serve its endpoint, sorted by id, and chooses one. A
reader's own router is one function of the same two things: `def pick(request, instances): return instance`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

from dynlab.errors import ConfigError, InstanceNotFoundError, PickError, did_you_mean, listed
from dynlab.protocols import Envelope, Instance
from dynlab.routing.fleet import Fleet

__all__ = (
    "PLAIN_MODES",
    "Bookkeeper",
    "CustomPicker",
    "DeviceAwareWeightedPicker",
    "DirectPicker",
    "LeastLoadedPicker",
    "Pick",
    "PickFunction",
    "Picker",
    "PowerOfTwoPicker",
    "RandomPicker",
    "RoundRobinPicker",
    "RouterMode",
    "RouterSpec",
    "make_picker",
    "parse_router_mode",
    "router_name",
)

PickFunction: TypeAlias = Callable[[Envelope, Sequence[Instance]], Instance | int]


class RouterMode(StrEnum):
    """The values of `--router-mode` in Dynamo 1.6.1."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    POWER_OF_TWO = "power-of-two"
    KV = "kv"
    DIRECT = "direct"
    LEAST_LOADED = "least-loaded"
    DEVICE_AWARE_WEIGHTED = "device-aware-weighted"


PLAIN_MODES = (
    RouterMode.ROUND_ROBIN,
    RouterMode.RANDOM,
    RouterMode.POWER_OF_TWO,
    RouterMode.LEAST_LOADED,
    RouterMode.DIRECT,
)
"""Those that know nothing of caches and devices."""

RouterSpec: TypeAlias = RouterMode | str | PickFunction
"""How a reader names a router: a mode, its name in either spelling, or a pick function."""


def parse_router_mode(spec: RouterSpec) -> RouterMode | PickFunction:
    """Accept `RouterMode.RANDOM`, "random", "round_robin", "RoundRobin", or a pick function.

    Raises:
        ConfigError: for any other value; names the modes and the closest one.
    """
    if callable(spec) and not isinstance(spec, str):
        return spec
    known = [mode.value for mode in RouterMode]
    wanted = "".join("-" + c.lower() if c.isupper() else c for c in str(spec)).strip("-").replace("_", "-")
    if wanted not in known:
        raise ConfigError(
            f"router_mode={spec!r} is no router mode; the modes are {listed(known)}, "
            f"or give a function pick(request, instances).{did_you_mean(wanted, known)}"
        )
    return RouterMode(wanted)


def router_name(router: RouterMode | PickFunction) -> str:
    """Return the mode's name, or that of a pick function with brackets."""
    return router.value if isinstance(router, RouterMode) else f"{getattr(router, '__name__', 'pick')}()"


class Pick(NamedTuple):
    """The chosen instance, what the rule looked at (kept in the trace, so plain JSON values), and what it booked."""

    instance: Instance
    detail: Mapping[str, Any]
    booking: str | None = None


class Picker(Protocol):
    """A rule with its state. `instances` is never empty and sorted by id, ascending."""

    mode: str

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        """Choose one instance."""


class Bookkeeper(Picker, Protocol):
    """A rule that books what it sends where, and must hear how it goes on. Called under one lock.

    Where requests `may_wait`, each is enqueued before it is picked for.
    """

    may_wait: bool

    def keep(self, listed: Iterable[int]) -> None:
        """These instances are listed now, and no others."""

    def hear(self, instance_id: int, event: Any) -> None:
        """An instance told this of its cache; None: it will tell everything anew."""

    def prefill_complete(self, booking: str) -> None:
        """The first item of a booked request came."""

    def free(self, booking: str) -> None:
        """A booked request has ended."""

    def enqueue(self, request: Envelope, instances: Sequence[Instance], call: Callable[[], object]) -> None:
        """Book a request before it is picked for, or let it wait; `call` says that its turn has come."""

    def is_waiting(self, request: Envelope) -> bool:
        """Tell whether its turn has not come yet."""

    def leave(self, request: Envelope) -> None:
        """A request that was enqueued will not be picked for."""

    def update(self, instances: Sequence[Instance]) -> None:
        """Something ended, or somebody came or went: let those go whose turn it is."""


class RoundRobinPicker:
    """Each instance in turn: `ids[turn % n]`, the turn counting on when workers join or leave."""

    mode = RouterMode.ROUND_ROBIN.value

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        turn = self._turn
        self._turn = turn + 1
        return Pick(instances[turn % len(instances)], {"turn": turn})


class RandomPicker:
    """Any instance, all equally likely."""

    mode = RouterMode.RANDOM.value

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        return Pick(instances[int(self._rng.random() * len(instances))], {})


class PowerOfTwoPicker:
    """Two distinct instances at random; the one with fewer requests in flight wins, the first on a tie."""

    mode = RouterMode.POWER_OF_TWO.value

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        n = len(instances)
        if n == 1:
            return Pick(instances[0], {"sampled": (instances[0].instance_id,)})
        one = int(self._rng.random() * n)
        other = int(self._rng.random() * (n - 1))
        first, second = instances[one], instances[other + (other >= one)]
        chosen = second if second.active_requests < first.active_requests else first
        return Pick(chosen, {"sampled": (first.instance_id, second.instance_id)})


class LeastLoadedPicker:
    """The fewest requests in flight; ties are drawn uniformly."""

    mode = RouterMode.LEAST_LOADED.value

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        if isinstance(instances, Fleet):
            chosen, tied = instances.least_loaded(self._rng)
            return Pick(chosen, {"tied": tied})
        least = min(instance.active_requests for instance in instances)
        candidates = [instance for instance in instances if instance.active_requests == least]
        return Pick(candidates[int(self._rng.random() * len(candidates))], {"tied": len(candidates)})


class DeviceAwareWeightedPicker:
    """Accelerators first: a CPU is sent something only when they have `ratio` times as much per instance.

    Within the kind that is chosen the fewest requests in flight win, ties drawn uniformly; where all instances are
    of one kind, so it is among all. (Dynamo: for encoders; `DYN_ENCODER_CUDA_TO_CPU_RATIO`, 8 by default.)
    """

    mode = RouterMode.DEVICE_AWARE_WEIGHTED.value

    def __init__(self, rng: random.Random, ratio: int = 8) -> None:
        self._rng = rng
        self._least_loaded = LeastLoadedPicker(rng)
        self._ratio = ratio

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        fleet = instances if isinstance(instances, Fleet) else Fleet(instances)
        cpus, others = fleet.cpus, fleet.others
        if cpus is None or others is None:
            return self._least_loaded.pick(request, fleet)
        # So many requests the CPUs may have in flight together, next to what the others have.
        budget = others.total * cpus.size // (self._ratio * others.size)
        tied = (cpus if cpus.total < budget else others).tied
        chosen = tied[int(self._rng.random() * len(tied))]
        return Pick(chosen, {"tied": len(tied), "device": chosen.device, "cpu_budget": budget})


class DirectPicker:
    """Always the same instance: the one named, or the one with the lowest id when none is."""

    mode = RouterMode.DIRECT.value

    def __init__(self, instance_id: int | None = None) -> None:
        self._instance_id = instance_id

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        """Choose the named instance.

        Raises:
            InstanceNotFoundError: if no instance has the id.
        """
        if self._instance_id is None:
            return Pick(instances[0], {})
        for instance in instances:
            if instance.instance_id == self._instance_id:
                return Pick(instance, {})
        raise InstanceNotFoundError(request.endpoint, self._instance_id, [i.instance_id for i in instances])


_BY_FUNCTION = {"function": True}  # its name may be that of a mode, and is no explanation then


class CustomPicker:
    """A reader's function behind the picker's face; it may return the instance or its id."""

    def __init__(self, function: PickFunction) -> None:
        self._function = function
        self.mode = getattr(function, "__name__", type(function).__name__)

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        """Ask the function.

        Raises:
            PickError: if what it returns is none of `instances`.
        """
        picked = self._function(request, instances)
        for instance in instances:
            if picked is instance or (type(picked) is int and picked == instance.instance_id):
                return Pick(instance, _BY_FUNCTION)
        raise PickError(picked, [instance.instance_id for instance in instances])


def make_picker(router: RouterMode | PickFunction, rng: random.Random) -> Picker:
    """Build the rule with fresh state.

    Raises:
        ValueError: for `RouterMode.KV`, which needs a runtime: `LocalRuntime.kv_picker(endpoint)`.
    """
    match router:
        case RouterMode.ROUND_ROBIN:
            return RoundRobinPicker()
        case RouterMode.RANDOM:
            return RandomPicker(rng)
        case RouterMode.POWER_OF_TWO:
            return PowerOfTwoPicker(rng)
        case RouterMode.LEAST_LOADED:
            return LeastLoadedPicker(rng)
        case RouterMode.DEVICE_AWARE_WEIGHTED:
            return DeviceAwareWeightedPicker(rng)
        case RouterMode.DIRECT:
            return DirectPicker()
        case RouterMode.KV:
            raise ValueError("RouterMode.KV needs a runtime's caches: take LocalRuntime.kv_picker(endpoint).")
    return CustomPicker(router)
