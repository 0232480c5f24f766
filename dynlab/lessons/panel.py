"""The panel of notebook 03: each press of Run serves the graph, sends the requests, and closes it again."""

from __future__ import annotations

from collections.abc import Mapping

from dynlab.hello_world import Frontend
from dynlab.panels.routing import RoutingPanel
from dynlab.serving.serve import serve

__all__ = ("LiveRun", "routing_panel")


class LiveRun:
    """Requests through a graph of their own, over HTTP."""

    def __init__(
        self, mode: str, workers: int, requests: int, *, seed: int | None = None, concurrency: int = 16
    ) -> None:
        self._deployment = serve(
            Frontend, workers={"DummyWorker": workers}, router_mode=mode, seed=seed, name="routing panel"
        )
        try:
            self._batch = self._deployment.ask_many(requests, concurrency=concurrency, wait=False)
        except BaseException:
            self._deployment.close()
            raise
        self._workers = [i.worker for i in self._deployment.instances if i.service.name == "DummyWorker"]

    def counts(self) -> Mapping[str, int]:
        """Count from the traces: they are written on the way, by whoever picks."""
        so_far = self._deployment.traces.requests_per_worker("DummyWorker")
        return {worker: so_far.get(worker, 0) for worker in self._workers}

    def finished(self) -> bool:
        return self._batch.finished

    def failures(self) -> int:
        return len(self._batch.failures)

    def close(self) -> None:
        self._deployment.close()


def routing_panel(*, seed: int | None = None) -> RoutingPanel:
    """Return the panel; `seed` makes the random modes draw the same again."""
    return RoutingPanel(lambda mode, workers, requests: LiveRun(mode, workers, requests, seed=seed))
