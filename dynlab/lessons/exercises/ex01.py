"""Exercise of notebook 01: a fourth hop, which turns prompts to upper case between Processor and worker."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from dynlab.errors import DynlabError
from dynlab.lessons.exercise import Exercise, Finding, Mistake, shown, wrong
from dynlab.runtime.loops import LoopThread
from dynlab.sdk.service import DynamoService
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from dynlab.tracing import RequestTrace

__all__ = ("EXERCISES",)

PROMPT = "three small words"
ANSWER_S = 4.0
"""How long one answer may take; the worker itself needs a twentieth of it."""
LAG_S = 0.04
"""A loop that cannot answer for this long, in each of `REQUESTS` requests, is blocked and not just busy."""
REQUESTS = 3


@dataclass
class Seen:
    """What came of one request; `lag_s` is how long each instance's loop was deaf at most."""

    text: str
    trace: RequestTrace
    lag_s: dict[str, float]


def judge(answer: Any) -> str:
    """Serve the reader's graph anew, send three requests through it, and look at their way."""
    entry, workers = _entry(answer)
    try:
        slow = {"DummyWorker": {"stream_words": True, "token_ms": 40}} if _streams(entry) else None
        deployment = serve(entry, workers=workers, config=slow, name="exercise 01.1", start_timeout=5.0)
    except Exception as error:
        raise Finding("mistake", f"The graph does not start. {type(error).__name__}: {shown(error, str)}") from None
    with deployment:
        asking = LoopThread("dynlab-check-asks")
        asking.start()
        try:
            seen = [_ask(deployment, asking) for _ in range(REQUESTS)]
        finally:
            asking.stop()
            asking.join(1.0)
    path = _path(seen[0].trace)
    _judge_text(seen[0])
    if len(path) != 4:
        raise Finding("mistake", f"The way down is {' → '.join(path)}: {len(path)} hops in a line, not four.")
    _judge_stream(seen[0].trace)
    deaf = {worker: min(one.lag_s.get(worker, 0.0) for one in seen) for worker in seen[0].lag_s}
    worker, lag_s = max(deaf.items(), key=lambda item: item[1])
    if lag_s > LAG_S:
        wrong("blocked the loop", worker=worker, lag_ms=round(lag_s * 1000))
    return f"{' → '.join(path)}: four hops in a line, and each item was passed on as it came."


def _entry(answer: Any) -> tuple[DynamoService, dict[str | DynamoService, int]]:
    """Take the service that requests enter, or a deployment of it with the services it was told to start."""
    if isinstance(answer, Deployment):
        return answer.graph.entry, {s: min(1, answer.graph.workers[s.name]) for s in answer.graph.services}
    if isinstance(answer, type):
        raise Finding("wrong type", f"{answer.__name__} is a plain class. Write `@service(...)` above it.")
    if not isinstance(answer, DynamoService):
        raise Finding("wrong type", f"Give your Frontend, the class that requests enter; this is {shown(answer)}.")
    if not answer.apis:
        raise Finding("wrong type", f"{answer.name} has no `@api` method. Give the service that requests enter.")
    return answer, {}


def _streams(entry: DynamoService) -> bool:
    """True if the worker of the graph can be told to send word by word."""
    known, found = [entry], {entry.name: entry}
    while known:
        for service in known.pop().started_with:
            if service.name not in found:
                found[service.name] = service
                known.append(service)
    model = found["DummyWorker"].config_model if "DummyWorker" in found else None
    return model is not None and "stream_words" in model.model_fields


async def _pulse() -> None:
    """Do nothing, on a loop that is free to."""


def _ask(deployment: Deployment, asking: LoopThread) -> Seen:
    """Send one request, and feel the pulse of each instance's loop until it is answered."""
    before = len(deployment.traces)
    answer: Future[list[str]] = asking.submit(deployment.ask_async(PROMPT))
    deadline = time.monotonic() + ANSWER_S
    lag_s = dict.fromkeys((i.worker for i in deployment.instances), 0.0)
    while not answer.done():
        for instance in deployment.instances:
            begun = time.monotonic()
            try:
                instance.thread.submit(_pulse()).result(max(0.0, deadline - begun))
            except TimeoutError:
                wrong("blocked the loop", worker=instance.worker, lag_ms=round(ANSWER_S * 1000))
            lag_s[instance.worker] = max(lag_s[instance.worker], time.monotonic() - begun)
        if time.monotonic() > deadline:
            raise Finding("mistake", f"No answer within {ANSWER_S:g} s. Which of your services waits, and for what?")
        wait([answer], 0.005)
    try:
        items = answer.result()
    except DynlabError as error:
        raise Finding("mistake", f"The request fails. {shown(error, str)}") from None
    if len(deployment.traces) == before:
        raise Finding("mistake", "The request left no trace.")
    return Seen("".join(items), deployment.traces.last, lag_s)


def _path(trace: RequestTrace) -> list[str]:
    """Return the endpoints from the first tier to the deepest hop."""
    hop, path = trace.answered_by, []
    while hop is not None:
        path.append(hop.endpoint)
        hop = hop.parent
    return path[::-1]


def _judge_text(seen: Seen) -> None:
    words = PROMPT.upper().split()
    if "GENERATEDBY" in seen.text:
        wrong("filter after the worker")
    if "three" in seen.text:
        if len(seen.trace.hops) < 4:
            wrong("no fourth hop", hops=len(seen.trace.hops))
        wrong("dropped what upper() returns")
    missing = [word for word in words if word not in seen.text]
    if missing:
        wrong("lost items", missing=", ".join(missing))
    if len(seen.trace.hops) < 4:
        wrong("no fourth hop", hops=len(seen.trace.hops))
    if "_ProcessedBy_" in seen.text:
        wrong("filter before the Processor")


def _judge_stream(trace: RequestTrace) -> None:
    """Hold the times of items at the fourth hop against those at the worker."""
    worker = trace.answered_by
    assert worker is not None
    above = worker.parent
    assert above is not None
    if len(worker.item_ns) > 1 and (not above.item_ns or above.item_ns[0] >= worker.item_ns[-1]):
        wrong("collected the stream", items=len(worker.item_ns))
    if above.items < worker.items:
        wrong("lost items", missing=f"{worker.items - above.items} of {worker.items} items")


_IMPORTS = """\
import time
from dynlab import GeneralRequest, depends, dynamo_context, dynamo_endpoint, service
from dynlab.hello_world import DummyWorker, Frontend, Processor

"""

_FILTER = """\
@service(dynamo={"namespace": "dynamo-demo"})
class Filter:
    worker = depends(DummyWorker)

    @dynamo_endpoint()
    async def upper(self, request: GeneralRequest):
        request.prompt = request.prompt.upper()
        async for item in self.worker.begenerate(request.model_dump_json()):
            yield item

"""

_PROCESSOR = """\
@service(dynamo={"namespace": "dynamo-demo"})
class LoudProcessor:
    filter = depends(Filter)

    @dynamo_endpoint()
    async def mdgenerate(self, raw_request: GeneralRequest):
        raw_request.prompt += f"_ProcessedBy_{dynamo_context['hostname']}"
        async for item in self.filter.upper(raw_request.model_dump_json()):
            yield item

"""

_FRONTEND = """\
@service(dynamo={"namespace": "dynamo-demo"})
class LoudFrontend(Frontend.inner):
    processor = depends(LoudProcessor)
"""


def _instead(old: str, new: str) -> str:
    """Return the solution with one piece of it replaced by a mistake."""
    whole = _IMPORTS + _FILTER + _PROCESSOR + _FRONTEND
    assert old in whole
    return whole.replace(old, new)


EXERCISES = (
    Exercise(
        number="01.1",
        task="Write the three classes, and give the one that requests enter.",
        answer="LoudFrontend",
        judge=judge,
        limit_s=30.0,
        hints=(
            "The filter is a service like the Processor, and calls the next tier. `depends` says who calls whom.",
            f"The filter, but for one line:\n\n{_FILTER.replace('request.prompt = request.prompt.upper()', '...')}",
            f"What leads to the filter:\n\n{_PROCESSOR}{_FRONTEND}",
        ),
        solution=_IMPORTS.replace("import time\n", "").replace(", Processor", "") + _FILTER + _PROCESSOR + _FRONTEND,
        mistakes={
            "filter after the worker": Mistake(
                "Even the worker's signature is in upper case. Your filter works on the answer; "
                "let it change the request, before the worker sees it.",
                _instead("request.prompt = request.prompt.upper()\n        ", "").replace(
                    "yield item\n\n@service", "yield item.upper()\n\n@service", 1
                ),
            ),
            "filter before the Processor": Mistake(
                "`_ProcessedBy_` is not in upper case, so the filter ran before the Processor. "
                "The Frontend calls the Processor; the Processor calls the filter.",
                _IMPORTS
                + _FILTER.replace("DummyWorker", "Processor")
                .replace("begenerate", "mdgenerate")
                .replace("async def upper", "async def mdgenerate")
                + _FRONTEND.replace("LoudProcessor", "Filter"),
            ),
            "no fourth hop": Mistake(
                "The request made {hops} hops. Make the filter a service of its own, which the Processor calls.",
                _instead(
                    "        async for item in self.filter.upper",
                    "        raw_request.prompt = "
                    "raw_request.prompt.upper()\n        async for item in self.filter.begenerate",
                ).replace("filter = depends(Filter)", "filter = depends(DummyWorker)"),
            ),
            "dropped what upper() returns": Mistake(
                "The prompt arrives as it was. A string never changes in place: `upper()` returns a new one, "
                "which has to go back into the request.",
                _instead("request.prompt = request.prompt.upper()", "request.prompt.upper()"),
            ),
            "lost items": Mistake(
                "Part of the answer is missing: {missing}. Pass on every item, with `yield` inside the loop; "
                "`return` or `break` ends the stream.",
                _instead("            yield item\n\n@service", "            yield item\n            break\n\n@service"),
            ),
            "collected the stream": Mistake(
                "All {items} items leave the filter at once, after the last one came in. "
                "The first token waits for all others. Yield each item as it comes.",
                _instead(
                    "        async for item in self.worker.begenerate(request.model_dump_json()):\n",
                    "        items = [i async for i in self.worker.begenerate(request.model_dump_json())]\n"
                    "        for item in items:\n",
                ),
            ),
            "blocked the loop": Mistake(
                "While {worker} works, its loop answers nobody for {lag_ms} ms. "
                "Wait with `await asyncio.sleep(...)`; `time.sleep` stops all requests of the instance.",
                _instead("request.prompt = ", "time.sleep(0.1)\n        request.prompt = "),
            ),
        },
    ),
)
