"""The one use of nest_asyncio: for Dynamo's own scripts, which end in `asyncio.run(worker())`, pasted into a cell."""

from __future__ import annotations

import asyncio

import nest_asyncio

from dynlab.errors import DynlabError

__all__ = ("allow_nested_run",)


def allow_nested_run() -> str:
    """Let `asyncio.run(...)` work in a cell, for the rest of this kernel's life; returns what was patched.

    It swaps asyncio's compiled tasks and futures for slower ones in Python and makes this thread's loop reentrant,
    and there is no way back but a restart of the kernel. dynlab itself never needs it: top-level `await` works in
    a cell, and every method of a deployment works without.

    Raises:
        DynlabError: if this thread's loop is uvloop's, which cannot be patched.
    """
    try:
        loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise DynlabError(
            f"The loop of this thread is a {type(loop).__module__}.{type(loop).__name__}, which nest_asyncio cannot "
            "patch. Use `await` instead of asyncio.run()."
        )
    nest_asyncio.apply(loop)
    return (
        "asyncio.run() now works inside a running loop of this process (nest_asyncio): asyncio.Task and "
        "asyncio.Future are the slower Python ones from here on. Restart the kernel to undo it."
    )
