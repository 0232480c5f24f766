"""Engines: what takes time at a worker (Dynamo's mocker in small). State machines without thread, loop or clock.

An engine is told the time and tells what happened until then: `add` a request, ask `next_at`, `advance` to it. So one
engine serves a simulator that jumps from event to event, a live worker that sleeps in between, and tests.
"""

from dynlab.engine.args import MockEngineArgs
from dynlab.engine.base import Engine, EngineEvent, Work
from dynlab.engine.fifo import FifoEngine
from dynlab.engine.mock import MockEngine

__all__ = ("Engine", "EngineEvent", "FifoEngine", "MockEngine", "MockEngineArgs", "Work")
