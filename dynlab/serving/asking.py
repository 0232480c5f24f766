"""Asking the Frontend over real HTTP from a cell: once, as a stream, or many times at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from dynlab.errors import ConfigError, DeploymentError, PayloadError, did_you_mean, listed
from dynlab.serving.answers import TIMEOUT_S, AnswerStream, Question
from dynlab.serving.batch import Batch
from dynlab.trace_log import TraceLog

__all__ = ("Asker",)


class Asker:
    """Sends requests to one Frontend, and adds to their traces when they were sent and answered."""

    def __init__(self, url: str, apis: Mapping[str, Sequence[str]], traces: TraceLog[Any]) -> None:
        self.url = url
        self._apis = apis
        self._traces = traces
        self._numbers = itertools.count(1)
        self._batches = itertools.count(1)
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=False)

    def close(self) -> None:
        self._client.close()

    def stream(self, args: Sequence[Any], body: Mapping[str, Any], api: str | None) -> AnswerStream:
        """Prepare one request; it is sent when the first item is asked for."""
        name = self._api(api)
        request = self._body(name, args, body)
        given = request.get("request_id")
        request_id = given if isinstance(given, str) and given else f"ask-{next(self._numbers)}"
        return AnswerStream(self._client, self._question(name, request, request_id), self._traces)

    def many(
        self, prompts: int | Iterable[Any], concurrency: int, wait: bool, api: str | None, body: Mapping[str, Any]
    ) -> Batch:
        """Send many requests from a thread of their own, `concurrency` at a time."""
        if type(concurrency) is not int or concurrency < 1:
            raise ConfigError(f"concurrency={concurrency!r} must be a number of requests, 1 or more.")
        if isinstance(prompts, str | bytes | Mapping) or (isinstance(prompts, int) and prompts < 0):
            raise ConfigError(f"ask_many({prompts!r}): give a list of prompts, or how many to make up.")
        name = self._api(api)
        each = [f"prompt {n}" for n in range(prompts)] if isinstance(prompts, int) else list(prompts)
        batch = next(self._batches)
        width = len(str(len(each)))
        questions: list[Question] = []
        for n, prompt in enumerate(each):
            request = dict(prompt) if isinstance(prompt, Mapping) else self._body(name, [prompt], body)
            request_id = str(request.get("request_id") or f"b{batch}-{n:0{width}}")
            questions.append(self._question(name, request, request_id))
        return Batch(questions, concurrency, self._traces).start(wait)

    def _api(self, api: str | None) -> str:
        if api is None:
            return next(iter(self._apis))
        if api not in self._apis:
            raise DeploymentError(
                f"The Frontend has no @api method {api!r}; it has {listed(self._apis)}.{did_you_mean(api, self._apis)}"
            )
        return api

    def _body(self, name: str, args: Sequence[Any], body: Mapping[str, Any]) -> dict[str, Any]:
        keys = self._apis[name]
        if len(args) > len(keys):
            raise DeploymentError(f"{name} takes the keys {listed(keys)}; {len(args)} values were given.")
        placed = dict(zip(keys, args, strict=False))
        for key in placed:
            if key in body:
                raise DeploymentError(
                    f"{name} was given {key!r} twice: {placed[key]!r} by place, {body[key]!r} by name."
                )
        return {**placed, **body}

    def _question(self, name: str, request: dict[str, Any], request_id: str) -> Question:
        """Turn a request into bytes here, in the cell, where what JSON cannot say is an error at once."""
        if "request_id" in self._apis[name]:
            request.setdefault("request_id", request_id)
        try:
            content = json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as exc:
            odd = next((value for value in request.values() if not _is_json(value)), request)
            raise PayloadError(odd, exc) from None
        return Question(f"{self.url}/{name}", request_id, content, worded=request.get("request_id") == request_id)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        return False
    return True
