"""Traces of real services as workloads: Mooncake's JSON Lines, which Dynamo's replay reads too, and Azure's CSV.

What is no such trace is refused, with its line: a trace that is half understood makes figures that are wrong. A file
whose name ends in `.gz` is read and written through gzip.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from reprlib import repr as shortly
from typing import IO, Any, NoReturn

import numpy as np

from dynlab.errors import ConfigError, TraceFileError, did_you_mean, listed
from dynlab.simulate.draws import whole
from dynlab.simulate.workload import Workload

__all__ = ("azure", "mooncake", "save_mooncake")

MOONCAKE = ("timestamp", "input_length", "output_length", "hash_ids")
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOST_MS = 10**11  # three years; what is above counts from 1970, not from the beginning of the trace
_MOST_TOKENS = 10**8
_MOST_ID = 2**64 - 1  # ids and hashes are u64 in Dynamo
_LONGEST = 1 << 24  # bytes of a line


def mooncake(path: str | Path, limit: int | None = None, *, block_size: int = 512) -> Workload:
    """Read a trace in Mooncake's format (FAST '25): one JSON object a line, one line a request.

    `timestamp` is in milliseconds since the trace began. `hash_ids` become the sequence as they are: an id stands for a
    block and all that comes before it, which is checked. A prompt's last block has an id even where it is not full, so
    `isl` may be up to a block less than the sequence's length times `block_size`: who takes the cached tokens from
    `isl` must not go below one. No ids at all say that nothing is known of the prompt. An answer of 0 tokens is read as
    1, because the prefill makes one.

    Args:
        path: the file.
        limit: read that many requests from its beginning; None: all.
        block_size: tokens of a block; 512 in what Mooncake published.

    Returns:
        The requests by time. Where a file goes back in time they are sorted; equal times stay in the file's order.

    Raises:
        TraceFileError: if there is no such file, or it is no such trace: where, what was found, what is expected.
        ConfigError: unless limit and block_size are whole numbers, 1 or more.
    """
    whole(block_size=block_size)
    trace, rows = _Trace(path), []
    before: dict[int, int | None] = {}  # which id each id follows
    for line in trace.lines(limit):
        record = trace.record(line)
        isl, osl = trace.tokens(record, "input_length"), trace.tokens(record, "output_length")
        ms, ids = record["timestamp"], record["hash_ids"]
        if type(ms) not in (int, float) or not 0 <= ms <= _MOST_MS:
            trace.refuse("timestamp", ms, f"milliseconds since the trace began, 0 to {_MOST_MS:,}")
        if type(ids) is not list or not all(type(i) is int and 0 <= i <= _MOST_ID for i in ids):
            trace.refuse("hash_ids", ids, "a list of whole numbers from 0 to 2**64 - 1")
        # Full blocks only, or the last that is not as well: either is done. Another number is another block size.
        if ids and len(ids) not in (blocks := (isl // block_size, -(-isl // block_size))):
            trace.refuse("hash_ids", ids, f"{blocks[1]} of them, for {isl} tokens at block_size={block_size}")
        # A cache loses count of a block that turns up behind another one, or twice in a prompt.
        for parent, block in zip(chain((None,), ids), ids, strict=False):
            if before.setdefault(block, parent) != parent:
                first = "none" if before[block] is None else before[block]
                trace.refuse("hash_ids", block, f"it behind {first} as before: an id stands for all up to there")
        rows.append((ms / 1000, isl, osl, ids))
    return trace.workload(rows, block_size=block_size)


def azure(path: str | Path, limit: int | None = None) -> Workload:
    """Read a trace in the format of Azure's LLM inference traces: CSV of times and numbers of tokens.

    Seconds count from the earliest request. A time without a zone is UTC, and digits after the sixth of its fraction
    are dropped. No prompts are known: the sequences are empty, and a cache finds nothing. An answer of 0 tokens is
    read as 1, because the prefill makes one.

    Args:
        path: the file.
        limit: read that many requests from its beginning; None: all.

    Returns:
        The requests by time. Where a file goes back in time they are sorted; equal times stay in the file's order.

    Raises:
        TraceFileError: if there is no such file, or it is no such trace: where, what was found, what is expected.
        ConfigError: unless limit is a whole number, 1 or more.
    """
    trace = _Trace(path)
    rows: list[tuple[datetime, int, int]] = []
    for record in trace.table(limit):
        isl, osl = trace.tokens(record, "ContextTokens"), trace.tokens(record, "GeneratedTokens")
        try:
            when = datetime.fromisoformat(record["TIMESTAMP"])
        except ValueError:
            trace.refuse("TIMESTAMP", record["TIMESTAMP"], "a time such as 2023-11-16 18:15:46.6805900")
        rows.append((when if when.tzinfo else when.replace(tzinfo=UTC), isl, osl))
    start = min(rows)[0] if rows else None
    return trace.workload([((when - start).total_seconds(), isl, osl, ()) for when, isl, osl in rows] if start else [])


def save_mooncake(workload: Workload, path: str | Path) -> Path:
    """Write a workload of prompts in Mooncake's format, and return the path.

    Times are rounded to nanoseconds. The format has no place for the block size (give it to `mooncake()`), nor for
    families, name and seed.

    Raises:
        ConfigError: if the workload has service times instead of tokens, which the format cannot say.
        TraceFileError: if the file cannot be written.
    """
    if not workload.isl.any():
        raise ConfigError(f"{workload!r} has no prompts; Mooncake's format holds tokens. Save one of prompt workloads.")
    target = _path(path)
    columns = (workload.arrival_s.tolist(), workload.isl.tolist(), workload.osl.tolist(), workload.sequences)
    try:
        with _open(target, "wb") as out:
            for second, isl, osl, sequence in zip(*columns, strict=True):
                ms = round(second * 1000, 6)
                values = (int(ms) if ms.is_integer() else ms, isl, osl, [int(block) for block in sequence])
                out.write(json.dumps(dict(zip(MOONCAKE, values, strict=True))).encode() + b"\n")
    except OSError as exc:
        raise TraceFileError(f"{target} cannot be written: {exc.strerror or exc}.") from None
    return target


class _Trace:
    """A file that is read line by line, and knows where it is when something is wrong."""

    def __init__(self, path: str | Path) -> None:
        self.path = _path(path)
        self.number = 0

    def lines(self, limit: int | None, more: int = 0) -> Iterator[str]:
        """Yield the first `limit` lines that are not blank, and so many more for a header."""
        if limit is not None:
            whole(limit=limit)
        yield from islice(self._texts(), None if limit is None else limit + more)

    def record(self, line: str) -> dict[str, Any]:
        """Return a line's JSON object, which has Mooncake's keys and no others."""
        try:
            record = json.loads(line, parse_constant=self._no_constant)
        except (ValueError, RecursionError):
            self.refuse("the line", line, "one JSON object; was the file cut off?")
        if not isinstance(record, dict):
            self.refuse("the line", record, "a JSON object with the keys " + listed(MOONCAKE))
        self._same_names("keys", list(record), MOONCAKE)
        return record

    def table(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield the rows of a CSV file, which has Azure's columns in any order and no others; digits become numbers."""
        names: list[str] = []
        for line in self.lines(limit, more=1):
            try:
                cells = [cell.strip() for cell in next(csv.reader([line]))]
            except csv.Error as exc:
                self.refuse("the line", line, f"CSV ({exc})")
            if not names:
                self._same_names("columns", cells, AZURE)
                names = cells
            elif len(cells) != len(names):
                self.refuse("the line", line, f"{len(names)} cells; was the file cut off?")
            else:
                # Not whatever int() reads: that is also 1_000, and it has an error of its own for very many digits.
                yield {
                    name: int(cell) if name != AZURE[0] and re.fullmatch("[0-9]{1,18}", cell) else cell
                    for name, cell in zip(names, cells, strict=True)
                }

    def tokens(self, record: dict[str, Any], name: str) -> int:
        """Return a number of tokens."""
        found = record[name]
        if type(found) is not int or not 0 <= found <= _MOST_TOKENS:
            self.refuse(name, found, f"a whole number of tokens, 0 to {_MOST_TOKENS:,}")
        return found

    def workload(self, rows: Sequence[tuple[float, int, int, Sequence[int]]], **more: int) -> Workload:
        """Make a workload of rows of (seconds, isl, osl, sequence)."""
        if not rows:
            raise TraceFileError(f"{self.path} holds no requests; expected one a line.")
        ordered = sorted(rows, key=lambda row: row[0])
        arrival_s, isl, osl, sequences = zip(*ordered, strict=True)
        n = len(rows)
        return Workload(
            name=self.path.name.removesuffix(".gz").rpartition(".")[0] or self.path.name,
            arrival_s=np.array(arrival_s, np.float64),
            service_s=np.zeros(n),
            isl=np.array(isl, np.int64),
            osl=np.maximum(np.array(osl, np.int64), 1),
            sequences=[tuple(sequence) for sequence in sequences],
            family=np.full(n, -1, np.int64),
            **more,
        )

    def refuse(self, what: str, found: object, expected: str) -> NoReturn:
        where = f"{self.path}, line {self.number}"
        raise TraceFileError(f"{where}: {what}: found {shortly(found)}; expected {expected}.") from None

    def _texts(self) -> Iterator[str]:
        try:
            with _open(self.path, "rb") as file:
                for self.number, raw in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                    if text := raw.decode("utf-8-sig").strip():
                        yield text
        except UnicodeDecodeError as exc:
            hint = "UTF-8 text; a compressed file has a name in .gz"
            self.refuse("the line", exc.object[exc.start : exc.start + 8], hint)
        except FileNotFoundError:
            raise TraceFileError(f"{self.path} is not there; expected the file of a trace.") from None
        except (OSError, EOFError, ValueError, zlib.error) as exc:
            where = f" after line {self.number}" if self.number else ""
            raise TraceFileError(
                f"{self.path} cannot be read{where}: {getattr(exc, 'strerror', None) or exc}."
            ) from None

    def _same_names(self, kind: str, found: Sequence[str], expected: Sequence[str]) -> None:
        if sorted(found) != sorted(expected):
            missing = listed(name for name in expected if name not in found)
            strange = [name for name in found if name not in expected]
            hint = did_you_mean(strange[0][:40], expected) if strange else ""
            raise TraceFileError(
                f"{self.path}, line {self.number}: {kind} missing: {missing}; unknown: "
                f"{listed(map(shortly, strange[:9]))}; expected {listed(expected)}, each once.{hint}"
            )

    @staticmethod
    def _no_constant(name: str) -> NoReturn:
        raise ValueError(name)  # NaN and Infinity are no JSON


def _path(path: str | Path) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise TraceFileError(f"path={path!r:.60} names no file; give a str or a Path.") from None


def _open(path: Path, mode: str) -> IO[bytes]:
    return gzip.open(path, mode) if path.suffix == ".gz" else path.open(mode)  # type: ignore[return-value]
