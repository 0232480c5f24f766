"""What an exercise consists of, and the words in which a check reports what it found."""

from __future__ import annotations

import dis
import inspect
import os
import reprlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

__all__ = ("Exercise", "Finding", "Mistake", "State", "Stumbled", "Verdict", "call", "need_function", "shown", "wrong")

State: TypeAlias = Literal["empty", "wrong type", "mistake", "close", "correct"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}


class Verdict(NamedTuple):
    """What is said about an answer; `mistake` names the foreseen mistake that it makes, if any."""

    state: State
    message: str
    mistake: str = ""


class Mistake(NamedTuple):
    """A wrong answer that was foreseen: what the reader is told, and an answer that makes it."""

    hint: str
    example: str


class Finding(Exception):
    """Ends a check: the answer is not right, or not right yet."""

    def __init__(self, state: State, message: str) -> None:
        self.verdict = Verdict(state, message)
        super().__init__(message)


class _Foreseen(Exception):
    """Ends a check: the answer makes this mistake."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name, self.values = name, values
        super().__init__(name)


class Stumbled(Exception):
    """The reader's function raised `error`; a check may know why, or else this sentence is shown."""

    def __init__(self, function: Any, given: str, error: BaseException) -> None:
        self.error = error
        name = getattr(function, "__name__", "your function")
        said = f": {shown(error, str)}" if str_or_nothing(error) else ""
        super().__init__(f"`{name}({given})` raised {type(error).__name__}{said}.{_where(error)}")


@dataclass(frozen=True)
class Exercise:
    """One exercise. `solution` and each mistake's example are sources that run and define the name `answer`.

    `judge` looks at an answer and returns what to say when it is right; else it raises `Finding`, or `wrong(...)`.
    """

    number: str
    task: str
    answer: str
    judge: Callable[[Any], str]
    hints: tuple[str, str, str]
    solution: str
    mistakes: Mapping[str, Mistake]
    limit_s: float = 5.0

    def verdict(self, answer: Any) -> Verdict:
        """Judge an answer; whatever the reader's code raises becomes a sentence."""
        if is_empty(answer):
            return Verdict("empty", f"Not answered yet. {self.task}")
        try:
            return Verdict("correct", self.judge(answer))
        except Finding as finding:
            return finding.verdict
        except _Foreseen as found:
            return Verdict("mistake", self.mistakes[found.name].hint.format(**found.values), found.name)
        except Stumbled as stumbled:
            return Verdict("mistake", str(stumbled))


def wrong(mistake: str, **values: Any) -> NoReturn:
    """End a check with a foreseen mistake; `values` fill the braces of its hint."""
    raise _Foreseen(mistake, values)


def is_empty(answer: Any) -> bool:
    """True for `...`, None, a tuple of nothing else, and a function without a body."""
    if answer is None or answer is ...:
        return True
    if type(answer) is tuple:
        return all(part is None or part is ... for part in answer)
    if not inspect.isfunction(answer) or inspect.isgeneratorfunction(answer) or inspect.iscoroutinefunction(answer):
        return False
    steps = list(dis.get_instructions(answer))
    returns_none = all(step.argval is None for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST"))
    return returns_none and all(step.opname in _EMPTY_BODY for step in steps)


def need_function(answer: Any, name: str, *parameters: str) -> Callable[..., Any]:
    """Return the answer if it is a function of these parameters; else say what it is instead."""
    taken = ", ".join(parameters)
    if isinstance(answer, type):
        raise Finding("wrong type", f"This is the class {answer.__name__}. Give a function: `def {name}({taken})`.")
    if not callable(answer):
        raise Finding(
            "wrong type", f"This is {shown(answer)}, not a function. Give `{name}` itself, without brackets behind it."
        )
    if inspect.iscoroutinefunction(answer) or inspect.isasyncgenfunction(answer):
        raise Finding("wrong type", f"This function is `async`. A plain one will do: `def {name}({taken})`.")
    if inspect.isgeneratorfunction(answer):
        raise Finding("wrong type", f"This function uses `yield`. Use `return`: `{name}` gives one answer a call.")
    try:
        inspect.signature(answer).bind(*parameters)
    except TypeError:
        signature = str(inspect.signature(answer))
        raise Finding("wrong type", f"It takes `{signature}`. It is called as `{name}({taken})`.") from None
    except ValueError:  # a builtin that does not say what it takes
        pass
    return answer  # type: ignore[no-any-return]


def call(function: Callable[..., Any], *args: Any, given: str) -> Any:
    """Call the reader's function; `given` says in words what it is given.

    Raises:
        Stumbled: whatever the function raises, even SystemExit.
    """
    try:
        result = function(*args)
    except TooLongError:
        raise
    except BaseException as error:
        raise Stumbled(function, given, error) from None
    if inspect.iscoroutine(result):
        result.close()
        raise Finding("wrong type", "The function returns a coroutine, which nobody awaits. Return the value itself.")
    return result


class TooLongError(BaseException):
    """Raised in the middle of a check that takes too long; no `except Exception` of the reader's stops it."""


def shown(value: Any, form: Callable[[Any], str] = reprlib.repr) -> str:
    """Return a short text of any value, even of one that cannot be shown."""
    try:
        text = form(value)
    except Exception as error:
        return f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}…"


def str_or_nothing(error: BaseException) -> str:
    """Return what an error says, or nothing when it cannot even say that."""
    try:
        return str(error)
    except Exception:
        return ""


def _where(error: BaseException) -> str:
    """Name the reader's own line that led to an error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_PACKAGE) and "site-packages" not in frame.filename:
            return f" Line {frame.lineno}: `{frame.line}`." if frame.line else f" Line {frame.lineno}."
    return ""
