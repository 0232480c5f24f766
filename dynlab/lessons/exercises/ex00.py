"""Exercise of notebook 00: what is left after the same cell has run three times."""

from __future__ import annotations

from typing import Any

from dynlab.hello_world import Frontend
from dynlab.lessons.exercise import Exercise, Finding, Mistake, shown, wrong
from dynlab.sdk.graph import resolve

__all__ = ("EXERCISES",)

WORKERS, RUNS, PORTS = 5, 3, 1


def judge(answer: Any) -> str:
    """Compare (threads, ports) with what the graph itself says."""
    if type(answer) is not tuple or len(answer) != 2:
        raise Finding("wrong type", f"Give two numbers, `(threads, ports)`; this is {shown(answer)}.")
    if any(part is None or part is ... for part in answer):
        raise Finding("empty", "One of the two numbers is missing.")
    if any(type(part) is not int for part in answer):
        raise Finding("wrong type", f"Both are counts, so whole numbers; this is {shown(answer)}.")
    threads, ports = answer
    instances = sum(resolve(Frontend, {"DummyWorker": WORKERS}).workers.values())
    if threads == RUNS * instances or ports == RUNS * PORTS:
        wrong("every run adds", threads=RUNS * instances)
    if threads == WORKERS:
        wrong("only the workers", others=instances - WORKERS)
    if threads == 1:
        wrong("one thread for all", instances=instances)
    if ports in (instances, WORKERS):
        wrong("a port for each service")
    if ports == 0:
        wrong("no port")
    if threads == instances and ports == PORTS:
        return f"{instances} instances, so {instances} threads, and one port: the third run replaced the second."
    if abs(threads - instances) == 1 and ports == PORTS:
        raise Finding("close", "The port is right. Count the instances once more: each has one thread.")
    raise Finding("mistake", "Count the instances in the card: each has one thread. Who of them takes HTTP requests?")


EXERCISES = (
    Exercise(
        number="00.1",
        task="Give `(threads, ports)` as two numbers.",
        answer="answer",
        judge=judge,
        hints=(
            "Look at the card: one row is one instance.",
            "Each instance runs in one thread of its own. What happens to the threads of the run before?",
            "Five workers, one Processor and one Frontend. Only one of the three services is reached over HTTP.",
        ),
        solution="answer = (7, 1)  # 5 DummyWorker + 1 Processor + 1 Frontend; only the Frontend listens\n",
        mistakes={
            "every run adds": Mistake(
                "That is what three runs add up to when each leaves its threads and its port behind. "
                "`serve` first closes the deployment of the same graph. Run the cell again and count.",
                "answer = (21, 3)",
            ),
            "only the workers": Mistake(
                "You counted the workers. The graph has {others} more instances, and each has a thread.",
                "answer = (5, 1)",
            ),
            "one thread for all": Mistake(
                "One thread would serve one instance. There are {instances}, so that a worker that blocks "
                "holds up nobody else.",
                "answer = (1, 1)",
            ),
            "a port for each service": Mistake(
                "Only the Frontend speaks HTTP. The other tiers hand requests from thread to thread, with no port.",
                "answer = (7, 7)",
            ),
            "no port": Mistake(
                "The card shows a URL, and its last number is a port. So there is one.", "answer = (7, 0)"
            ),
        },
    ),
)
