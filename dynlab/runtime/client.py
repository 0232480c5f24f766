"""The client of an endpoint on the local runtime, with the semantics of Dynamo 1.6.1's Python `Client`."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from dynlab.errors import (
    InstanceNotFoundError,
    InstancesTimeoutError,
    NoInstancesError,
    StreamIncompleteError,
    WorkerUnavailableError,
    did_you_mean,
    listed,
)
from dynlab.protocols import EndpointId, Envelope, Instance, to_wire
from dynlab.routing.modes import (
    Bookkeeper,
    DirectPicker,
    LeastLoadedPicker,
    Picker,
    PickFunction,
    PowerOfTwoPicker,
    RandomPicker,
    RoundRobinPicker,
    RouterMode,
    make_picker,
)
from dynlab.runtime.context import Context, current_context
from dynlab.runtime.loops import Mailbox
from dynlab.runtime.reply import Reply, ResponseStream
from dynlab.runtime.request_plane import Call

if TYPE_CHECKING:
    from dynlab.runtime.local import LocalRuntime

__all__ = ("LocalClient",)


def _says_dead(error: BaseException, instance_id: int) -> bool:
    """True if the error says that this very worker is gone, and not one that it had called itself."""
    return isinstance(error, WorkerUnavailableError | StreamIncompleteError) and error.instance_id == instance_id


class LocalClient:
    """Sends requests to the instances of one endpoint. Lives on the loop that made it.

    Round robin goes through the ids in ascending order from the first, and only round robin moves its turn.
    `generate` is random, whatever the router mode: so it is in Dynamo's Python client. `route` is dynlab's own
    verb: it follows the router mode of this client, or else of the deployment.
    """

    def __init__(
        self,
        runtime: LocalRuntime,
        endpoint: EndpointId,
        router: RouterMode | PickFunction | None,
        rng: random.Random,
    ) -> None:
        self.endpoint = endpoint
        self._runtime = runtime
        self._router = router
        self._rng = rng
        self._home = Mailbox.here()
        self._loop = asyncio.get_running_loop()
        self._table = runtime.table(endpoint)
        self._round_robin = RoundRobinPicker()
        self._random = RandomPicker(rng)
        self._power_of_two = PowerOfTwoPicker(rng)
        self._least_loaded = LeastLoadedPicker(rng)
        self._routers: dict[RouterMode | PickFunction, Picker] = {}

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that are listed now, sorted by id, with their requests in flight."""
        return self._table.instances()

    def instance_ids(self) -> list[int]:
        """Return the ids of the instances that are listed now (sorted here; Dynamo gives no order)."""
        return [instance.instance_id for instance in self._table.instances()]

    def endpoint_ids(self) -> list[int]:
        """The name of `instance_ids` until Dynamo 0.3."""
        return self.instance_ids()

    async def wait_for_instances(self, at_least: int = 1, timeout: float | None = None) -> list[int]:
        """Wait until that many instances are listed, and return their ids.

        Raises:
            InstancesTimeoutError: if they do not appear within `timeout` seconds.
        """
        try:
            watching = self._runtime.planes.discovery.watch(self.endpoint)
            async with asyncio.timeout(timeout), aclosing(watching):
                async for found in watching:
                    if len(found) >= at_least:
                        break
        except TimeoutError:
            assert timeout is not None
            found_now = len(self.instance_ids())
            raise InstancesTimeoutError(self.endpoint, found_now, at_least, timeout, self._hint()) from None
        return self.instance_ids()

    async def direct(
        self, request: Any, instance_id: int, annotated: bool = True, context: Context | None = None
    ) -> ResponseStream:
        """Send to one instance, even one that just failed.

        Raises:
            InstanceNotFoundError: if no instance has the id.
            WorkerUnavailableError: if it is listed but dead.
        """
        try:
            return self._send(DirectPicker(instance_id), request, annotated, context, direct=True)
        except NoInstancesError:  # Dynamo's sentence is about the id, even when there is nobody at all
            raise InstanceNotFoundError(self.endpoint, instance_id, ()) from None

    async def random(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to any instance, all equally likely.

        Raises:
            NoInstancesError: if there is none.
            WorkerUnavailableError: if the chosen one is dead and no migration is left.
        """
        return self._send(self._random, request, annotated, context)

    async def round_robin(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to the next instance in turn; raises as `random` does."""
        return self._send(self._round_robin, request, annotated, context)

    async def power_of_two(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> ResponseStream:
        """Send to the less loaded of two drawn at random; raises as `random` does. (In Dynamo: Rust only.)"""
        return self._send(self._power_of_two, request, annotated, context)

    async def least_loaded(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> ResponseStream:
        """Send to the least loaded; raises as `random` does. (In Dynamo: Rust only.)"""
        return self._send(self._least_loaded, request, annotated, context)

    async def generate(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to any instance: the same as `random`."""
        return self._send(self._random, request, annotated, context)

    async def route(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send by the router mode of this client, or else of the deployment; raises as `random` does."""
        router = self._router if self._router is not None else self._runtime.planes.router_mode
        picker = self._routers.get(router)
        if picker is None:
            kv = router is RouterMode.KV
            picker = self._runtime.kv_picker(self.endpoint) if kv else make_picker(router, self._rng)
            self._routers[router] = picker
        reply = self._prepare(picker, request, context, direct=router is RouterMode.DIRECT)
        if router is RouterMode.KV and picker.may_wait:  # type: ignore[attr-defined]
            await self._turn(reply)
        return self._launch(reply, annotated)

    def _send(
        self, picker: Picker, request: Any, annotated: bool, context: Context | None, *, direct: bool = False
    ) -> ResponseStream:
        return self._launch(self._prepare(picker, request, context, direct=direct), annotated)

    def _prepare(self, picker: Picker, request: Any, context: Context | None, *, direct: bool) -> Reply:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"This client of {self.endpoint} lives on another event loop; "
                "make one where you use it: await endpoint.client()."
            )
        parent = context if context is not None else current_context.get()
        if parent is None:
            parent = Context(self._runtime.next_request_id())
        request_id = parent.id()
        if parent.trace is None:
            parent.trace = self._runtime.planes.traces.begin(request_id)
        envelope = Envelope(self.endpoint, request_id, to_wire(request))
        tries_left = 0 if direct else self._runtime.planes.migration_limit
        return Reply(self._home, parent, self, envelope, picker, direct, tries_left)

    async def _turn(self, reply: Reply) -> None:
        """Wait in the queue of a picker that keeps books, until the request may go or nobody wants it any more."""
        picker: Bookkeeper = reply.picker  # type: ignore[assignment]
        try:
            self._table.enqueue(picker, reply.envelope, partial(self._home.post, reply.wake))
            while picker.is_waiting(reply.envelope) and not reply.is_over:
                await reply.more()
        except BaseException:
            reply.close()
            raise
        finally:
            if reply.is_over:
                self._table.leave(picker, reply.envelope)

    def _launch(self, reply: Reply, annotated: bool) -> ResponseStream:
        """Send what was prepared, unless nobody wants it any more."""
        if not reply.is_over:
            try:
                self._dispatch(reply)
            except WorkerUnavailableError as error:
                if not self.resend(reply, error):
                    reply.close()
                    raise
            except BaseException:
                reply.close()
                raise
        return ResponseStream(reply, annotated)

    def resend(self, reply: Reply, error: BaseException) -> bool:
        """Try another worker after one died with nothing sent (Dynamo: `migration.rs`)."""
        while reply.tries_left > 0 and reply.instance is not None and _says_dead(error, reply.instance.instance_id):
            reply.tries_left -= 1
            try:
                self._dispatch(reply)
                return True
            except WorkerUnavailableError as again:
                error = again
            except Exception:
                return False  # nobody left: the reader gets the error of the worker that died
        return False

    def settle(self, reply: Reply, error: BaseException | None) -> None:
        """Count a request as ended, and skip an instance that died of it."""
        instance = reply.instance
        if instance is None:  # it arrived nowhere
            return
        self._table.release(instance)
        if error is not None and _says_dead(error, instance.instance_id):
            self._table.report_down(instance)  # before the books: whose turn it is now shall not go there
        if reply.booking is not None:
            self._table.free(reply.picker, reply.booking)  # type: ignore[arg-type]

    def answering(self, reply: Reply) -> None:
        """Tell a picker that keeps books that the first item of its request came."""
        self._table.answering(reply.picker, reply.booking)  # type: ignore[arg-type]

    def _dispatch(self, reply: Reply) -> None:
        """Pick an instance and hand it the request."""
        trace = reply.context.trace
        assert trace is not None
        hop = trace.hop(reply.context.hop, self.endpoint.component, self.endpoint.name)
        try:
            server, reply.instance, reply.booking = self._table.select(
                reply.picker, reply.envelope, hop, direct=reply.direct
            )
        except BaseException as error:
            hop.ended(type(error).__name__)
            raise
        assert server is not None  # on this runtime all instances are threads
        call = Call(reply.envelope, reply, trace, hop, server.home)
        try:
            server.submit(call)
        except WorkerUnavailableError as error:
            hop.ended(type(error).__name__)
            self.settle(reply, error)
            raise
        # After the call was taken: its items are posted to this loop, which is busy here until then.
        reply.attach(call)

    def _hint(self) -> str:
        """Say what is served, when the endpoint's name may simply be misspelt."""
        known = [str(endpoint) for endpoint in self._runtime.planes.discovery.endpoints()]
        if str(self.endpoint) in known:
            return ""
        return f" Served now: {listed(known)}.{did_you_mean(str(self.endpoint), known)}"

    def __repr__(self) -> str:
        return f"<LocalClient of {self.endpoint}: instances {self.instance_ids()}>"
