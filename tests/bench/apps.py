"""The servers that `bench_graph.py` compares, each in a process of its own: `apps.py NAME`.

    graph      dynlab's three tiers, round robin, tracing on
    one        a FastAPI app with one streaming handler: no tiers
    chained    a FastAPI app whose handler chains three async generators in one loop

All take `POST /fegenerate {"prompt", "request_id"}` and stream `--items` texts, on uvicorn with uvloop and httptools.
Prints its port and the moment (`time.monotonic`) when it began to import, then serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import time

__all__ = ("NAMES",)

NAMES = ("graph", "one", "chained")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--items", type=int, default=1)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=4, help="workers of the graph")
    given = parser.parse_args()
    began = time.monotonic()
    # Each process imports its own side only.
    if given.name == "graph":
        from tests.bench import graph_app

        graph_app.main(given.items, given.gap_ms, given.workers, began)
    else:
        from tests.bench import fastapi_app

        fastapi_app.main(given.name == "chained", given.items, given.gap_ms, began)
