"""What services log is kept, named by its instance, and never printed."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from dynlab.sdk.endpoint import api, async_on_start
from dynlab.sdk.service import service
from dynlab.serving import logs
from dynlab.serving.serve import serve

own = logging.getLogger("dynlab.test.own")


@service(dynamo={"namespace": "test"})
class Frontend:
    @async_on_start
    def hello(self) -> None:
        own.info("hello, %s", "world")

    @api
    async def say(self, text):
        own.warning(text)
        yield text


def without_time(lines: list[str]) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines]


def test_lines_say_when_how_bad_who_and_what() -> None:
    """A service logs under `dynlab.anything`; dynlab's own lines stand beside."""
    with serve(Frontend) as deployment:
        deployment.ask("careful")
        lines = deployment.logs()
        (instance,) = deployment.instances

    assert all(re.match(r"\d\d:\d\d:\d\d \w+ +Frontend-0: ", line) for line in lines)
    assert [
        "INFO    Frontend-0: hello, world",
        f"INFO    Frontend-0: serving as instance {instance.instance_id}",
        "WARNING Frontend-0: careful",
    ] == without_time(lines)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """A thread's line would end up in whatever cell runs then."""
    with serve(Frontend) as deployment:
        deployment.ask("careful")

    assert ("", "") == capfd.readouterr()


def test_two_deployments_keep_their_lines_apart() -> None:
    """Each reads what its own services say."""
    with serve(Frontend, name="a") as a, serve(Frontend, name="b") as b:
        a.ask("for a")
        b.ask("for b")

        assert (1, 0) == (sum("for a" in line for line in a.logs()), sum("for b" in line for line in a.logs()))
        assert (0, 1) == (sum("for a" in line for line in b.logs()), sum("for b" in line for line in b.logs()))


def test_the_last_lines_can_be_asked_for() -> None:
    """`logs(2)` are the newest two, oldest first; `logs(0)` none."""
    with serve(Frontend) as deployment:
        for n in range(3):
            deployment.ask(f"line {n}")

        assert ["line 1", "line 2"] == [line.rpartition(": ")[2] for line in deployment.logs(2)]
        assert [] == deployment.logs(0)


def test_old_lines_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded however much is said."""
    monkeypatch.setattr(logs, "MAX_LINES", 3)

    with serve(Frontend) as deployment:
        for n in range(5):
            deployment.ask(f"line {n}")
        kept = deployment.logs()

    assert ["line 2", "line 3", "line 4"] == [line.rpartition(": ")[2] for line in kept]


def test_lines_stay_readable_after_close_and_no_handler_stays() -> None:
    """What went wrong can still be read, and the loggers are as they were."""
    before = {name: list(logging.getLogger(name).handlers) for name in ("dynlab", "uvicorn.error")}

    with serve(Frontend) as deployment:
        deployment.ask("careful")

    assert "careful" in deployment.logs()[2]
    assert before == {name: list(logging.getLogger(name).handlers) for name in before}


@service(dynamo={"namespace": "test"})
class Careless:
    @api
    async def drop(self):
        asyncio.get_running_loop().call_exception_handler({"message": "dropped", "exception": LookupError("unseen")})
        yield "ok"


@pytest.mark.errors_expected
def test_what_nobody_awaits_is_told_here(capfd: pytest.CaptureFixture[str]) -> None:
    """A task of a service that fails unseen leaves its error in the log, not in the reader's cell."""
    with serve(Careless, name="careless") as deployment:
        deployment.ask()
        (line,) = [line for line in deployment.logs() if "dropped" in line]

    assert "ERROR   Careless-0: dropped" in line
    assert "LookupError: unseen" in line
    assert ("", "") == capfd.readouterr()
