"""Start a graph and stop it, once, in this process: `startstop.py --workers 64` prints the seconds of each as JSON."""

from __future__ import annotations

import argparse
import json
import threading
import time

from dynlab import serve
from tests.bench.graph_app import make_graph


def start_and_stop(workers: int) -> dict[str, float]:
    """Time `serve()` and `close()`, each until it returns."""
    graph = make_graph()
    began = time.perf_counter()
    deployment = serve(graph, workers={"DummyWorker": workers})
    serving = time.perf_counter()
    assert deployment.workers["DummyWorker"] == workers
    closing = time.perf_counter()
    deployment.close()
    closed = time.perf_counter()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("dynlab-")]
    assert not left, f"close() left {left}"
    return {"started": serving - began, "stopped": closed - closing}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    print(json.dumps(start_and_stop(parser.parse_args().workers)))
