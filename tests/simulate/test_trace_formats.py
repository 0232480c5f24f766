"""`dynlab.simulate.trace_formats`: real services' traces read whole, and what is none refused with its line."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache as once
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynlab.errors import ConfigError, TraceFileError
from dynlab.kv.cache import KvCache
from dynlab.simulate.trace_formats import azure, mooncake, save_mooncake
from dynlab.simulate.workload import Workload, poisson, prefix_families
from tests.kv.test_cache import use
from tests.kv.test_cache_trace import TRACE, plain_lru_hits

# No `unavailable`: the data is no part of the project, so CI may be without it.
needs_trace = pytest.mark.skipif(not TRACE.exists(), reason=f"{TRACE} is not there; DYNLAB_TRACE_DIR says where it is")

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
MORNING = "2023-11-16 18:15:46.6805900"
GOOD = {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": list(range(14))}


def lines(*records: object) -> bytes:
    """Return records as JSON Lines; what is text already stays as it is."""
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()


def table(*rows: str) -> bytes:
    return "".join(row + "\n" for row in (HEADER, *rows)).encode()


def prompts(
    arrival_s: Sequence[float], isl: Sequence[int], osl: Sequence[int], ids: Sequence[Sequence[int]]
) -> Workload:
    n = len(isl)
    return Workload(
        "drawn", np.array(arrival_s, float), np.zeros(n), np.array(isl), np.array(osl), ids, np.full(n, -1), 512
    )


# ---------------------------------------------------------------------------- Mooncake


def test_a_mooncake_line_becomes_a_request(tmp_path: Path) -> None:
    """Milliseconds become seconds, the ids the sequence as they are; there are no service times and families."""
    path = tmp_path / "small.jsonl"
    path.write_bytes(lines({"timestamp": 0, "input_length": 512, "output_length": 3, "hash_ids": [70]}, GOOD))

    trace = mooncake(path)

    assert ("small", 2, 512, None) == (trace.name, len(trace), trace.block_size, trace.seed)
    assert [0.0, 27.482] == trace.arrival_s.tolist()
    assert ([512, 6955], [3, 52]) == (trace.isl.tolist(), trace.osl.tolist())
    assert [(70,), tuple(range(14))] == list(trace.sequences)
    assert ([0.0, 0.0], [-1, -1]) == (trace.service_s.tolist(), trace.family.tolist())


@pytest.mark.parametrize("ids", [[], [1], [1, 2]])
def test_the_last_block_may_be_full_or_not_or_nothing_known(tmp_path: Path, ids: list[int]) -> None:
    """700 tokens are one full block, or two of which one is not full, or a prompt of which nothing is known."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines({"timestamp": 0, "input_length": 700, "output_length": 1, "hash_ids": ids}))

    trace = mooncake(path)

    assert ([700], [tuple(ids)]) == (trace.isl.tolist(), list(trace.sequences))


def test_the_first_requests_alone_are_read(tmp_path: Path) -> None:
    """With a limit nothing behind it is read, not even what is wrong; blank lines do not count."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(GOOD, "", GOOD, "no JSON"))

    assert [1, 2] == [len(mooncake(path, limit=n)) for n in (1, 2)]
    with pytest.raises(TraceFileError, match="line 4"):
        mooncake(path, limit=3)


def test_times_that_go_back_are_sorted(tmp_path: Path) -> None:
    """Requests come by time, and those of one time in the file's order; each keeps what is its own."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(*(GOOD | {"timestamp": ms, "output_length": n} for n, ms in enumerate((5, 9, 5, 0), 1))))

    trace = mooncake(path)

    assert [0.0, 0.005, 0.005, 0.009] == trace.arrival_s.tolist()
    assert [4, 1, 3, 2] == trace.osl.tolist()


def test_an_answer_of_no_token_is_one_of_one(tmp_path: Path) -> None:
    """The prefill makes a token, so 0 is read as 1, in both formats."""
    (tmp_path / "t.jsonl").write_bytes(lines(GOOD | {"output_length": 0}))
    (tmp_path / "t.csv").write_bytes(table(f"{MORNING},12,0"))

    assert [1, 1] == [int(read.osl[0]) for read in (mooncake(tmp_path / "t.jsonl"), azure(tmp_path / "t.csv"))]


# ---------------------------------------------------------------------------- Azure


def test_an_azure_row_becomes_a_request_without_a_prompt(tmp_path: Path) -> None:
    """Seconds count from the earliest; the seventh digit is dropped, and nothing is known of the text."""
    path = tmp_path / "conv.csv"
    path.write_bytes(table(f"{MORNING},374,44", "2023-11-16 18:15:50.9951690,396,109"))

    trace = azure(path)

    assert ("conv", 2) == (trace.name, len(trace))
    assert [0.0, 4.314579] == trace.arrival_s.tolist()
    assert ([374, 396], [44, 109], [(), ()]) == (trace.isl.tolist(), trace.osl.tolist(), list(trace.sequences))


def test_zones_and_the_order_of_columns_do_not_matter(tmp_path: Path) -> None:
    """A time without a zone is UTC; columns are found by name; a byte order mark and quotes are no part of them."""
    path = tmp_path / "t.csv"
    head = "\ufeffGeneratedTokens,TIMESTAMP,ContextTokens"
    rows = ["1,2024-05-10 00:00:02,11", '"2","2024-05-10 00:00:00.500000+00:00","22"', "3,2024-05-10T01:00:01+01:00,33"]
    path.write_text("\r\n".join((head, *rows)), encoding="utf-8", newline="")

    trace = azure(path)

    assert [0.0, 0.5, 1.5] == trace.arrival_s.tolist()
    assert ([2, 3, 1], [22, 33, 11]) == (trace.osl.tolist(), trace.isl.tolist())


def test_a_limit_leaves_the_header_out(tmp_path: Path) -> None:
    """It counts requests."""
    path = tmp_path / "t.csv"
    path.write_bytes(table(*[f"{MORNING},1,1"] * 3))

    assert [1, 2, 3, 3] == [len(azure(path, limit)) for limit in (1, 2, 3, None)]


# ---------------------------------------------------------------------------- what is no trace

KEYS = "expected timestamp, input_length, output_length, hash_ids, each once"
COLUMNS = "expected TIMESTAMP, ContextTokens, GeneratedTokens, each once"
COUNT = "expected a whole number of tokens, 0 to 100,000,000"
MOONCAKE_FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no requests"),
    "blank": (b"\n \n", "holds no requests"),
    "not UTF-8": (lines(GOOD) + b"\xff\xfe{\n", "line 2: the line: found b'\\xff"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "line 1: the line"),
    "cut off": (lines(GOOD) + lines(GOOD)[:40], "line 2: the line: found '{\"timestamp"),
    "deep": (b"[" * 200_000, "expected one JSON object"),
    "a list": (b"[1, 2]", "line 1: the line: found [1, 2]; expected a JSON object"),
    "no object": (b"null", "found None; expected a JSON object"),
    "missing key": (lines({k: v for k, v in GOOD.items() if k != "hash_ids"}), "keys missing: hash_ids; unknown: none"),
    "misspelt key": (
        lines({("output_len" if k == "output_length" else k): v for k, v in GOOD.items()}),
        f"missing: output_length; unknown: 'output_len'; {KEYS}. Did you mean 'output_length'?",
    ),
    "unknown key": (lines(GOOD | {"delay": 3}), f"unknown: 'delay'; {KEYS}"),
    "negative time": (lines(GOOD | {"timestamp": -1}), "timestamp: found -1; expected milliseconds"),
    "NaN": (lines(GOOD, GOOD | {"timestamp": float("nan")}), "line 2: the line"),
    "infinite": (lines(GOOD | {"input_length": float("inf")}), "line 1: the line"),
    "overflow": (lines(GOOD).replace(b"27482", b"1e999"), "timestamp: found inf"),
    "since 1970": (lines(GOOD | {"timestamp": 1_700_000_000_000}), "since the trace began, 0 to 100,000,000,000"),
    "huge": (lines(GOOD | {"output_length": 10**30}), COUNT),
    "endless": (lines(GOOD).replace(b"27482", b"9" * 5000), "line 1: the line"),
    "text for a number": (lines(GOOD | {"input_length": "6955"}), f"input_length: found '6955'; {COUNT}"),
    "fraction": (lines(GOOD | {"input_length": 6955.5}), f"input_length: found 6955.5; {COUNT}"),
    "truth": (lines(GOOD | {"output_length": True}), f"output_length: found True; {COUNT}"),
    "true time": (lines(GOOD | {"timestamp": True}), "timestamp: found True"),
    "negative tokens": (lines(GOOD | {"input_length": -5}), f"input_length: found -5; {COUNT}"),
    "ids no list": (lines(GOOD | {"hash_ids": 7}), "hash_ids: found 7; expected a list of whole numbers"),
    "ids of text": (lines(GOOD | {"hash_ids": ["a"] * 14}), "hash_ids: found ['a'"),
    "negative id": (lines(GOOD | {"hash_ids": [-1] * 14}), "hash_ids: found [-1"),
    "an id twice": (lines(GOOD | {"hash_ids": [*range(13), 3]}), "hash_ids: found 3; expected it behind 2 as before"),
    "an id behind others": (
        lines(GOOD, GOOD | {"hash_ids": [20, *range(1, 14)]}),
        "line 2: hash_ids: found 1; expected it behind 0 as before: an id stands for all up to there",
    ),
    "a first id behind others": (
        lines(GOOD, GOOD | {"hash_ids": [20, *range(13)]}),
        "expected it behind none as before",
    ),
    "too many ids": (
        lines(GOOD | {"hash_ids": list(range(15))}),
        "14 of them, for 6955 tokens at block_size=512",
    ),
}
AZURE_FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no requests"),
    "header alone": (table(), "holds no requests"),
    "no header": (f"{MORNING},1,2\n".encode(), "missing: TIMESTAMP, ContextTokens, GeneratedTokens; unknown: "),
    "misspelt": (b"TIMESTAMP,ContextToken,GeneratedTokens\n", "unknown: 'ContextToken'"),
    "too many columns": (HEADER.encode() + b",NumImages\n", f"missing: none; unknown: 'NumImages'; {COLUMNS}"),
    "column twice": (HEADER.encode() + b",TIMESTAMP\n", COLUMNS),
    "not UTF-8": (table() + b"\xff\n", "line 2: the line"),
    "cut off": (table(f"{MORNING},1,2", f"{MORNING},1"), "line 3: the line"),
    "no time": (table("yesterday,1,2"), "TIMESTAMP: found 'yesterday'; expected a time such as 2023-11-16 18:15:46"),
    "no day": (table("2023-02-30 00:00:00,1,2"), "line 2: TIMESTAMP"),
    "negative": (table(f"{MORNING},-1,2"), f"ContextTokens: found '-1'; {COUNT}"),
    "NaN": (table(f"{MORNING},1,NaN"), f"GeneratedTokens: found 'NaN'; {COUNT}"),
    "fraction": (table(f"{MORNING},1.5,2"), "ContextTokens: found '1.5'"),
    "nothing": (table(f"{MORNING},,2"), "ContextTokens: found ''"),
    "huge": (table(f"{MORNING},{10**12},2"), f"ContextTokens: found 1000000000000; {COUNT}"),
    "endless": (table(f"{MORNING},{'9' * 5000},2"), "ContextTokens: found '999"),
    "a field too long": (table("x" * 200_000 + ",1,2"), "expected CSV"),
}


@pytest.mark.parametrize("fault", MOONCAKE_FAULTS)
def test_what_is_no_mooncake_trace_is_refused(tmp_path: Path, fault: str) -> None:
    """The error names the file, the line, what was found and what is expected, and shows no other error with it."""
    content, says = MOONCAKE_FAULTS[fault]
    refused(mooncake, tmp_path / "t.jsonl", content, says)


@pytest.mark.parametrize("fault", AZURE_FAULTS)
def test_what_is_no_azure_trace_is_refused(tmp_path: Path, fault: str) -> None:
    """The error names the file, the line, what was found and what is expected, and shows no other error with it."""
    content, says = AZURE_FAULTS[fault]
    refused(azure, tmp_path / "t.csv", content, says)


def refused(read: Callable[[Path], Workload], path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(TraceFileError) as caught:
        read(path)
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(path))
    assert len(message) < len(str(path)) + 400
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("read", [mooncake, azure])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, read: Callable[[Path], Workload]) -> None:
    """Be it not there, a folder, a name that cannot be, or a compressed file that is none or was cut off."""
    cut, none = tmp_path / "cut.gz", tmp_path / "none.gz"
    cut.write_bytes(gzip.compress(b"x" * 10_000)[:30])
    none.write_bytes(lines(GOOD))

    with pytest.raises(TraceFileError, match=r"gone\.csv is not there"):
        read(tmp_path / "gone.csv")
    for path in (tmp_path, cut, none, Path("a\0b")):
        with pytest.raises(TraceFileError, match="cannot be read"):
            read(path)
    with pytest.raises(TraceFileError, match="path=None names no file"):
        read(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
def test_a_limit_is_a_whole_number(tmp_path: Path, limit: int) -> None:
    """Anything else is named, and so is a block size that is none."""
    (tmp_path / "t.jsonl").write_bytes(lines(GOOD))

    with pytest.raises(ConfigError, match="limit="):
        mooncake(tmp_path / "t.jsonl", limit)
    with pytest.raises(ConfigError, match="block_size="):
        mooncake(tmp_path / "t.jsonl", block_size=limit)


@settings(max_examples=200, deadline=None)
@given(
    at=st.integers(0, 400),
    gone=st.integers(0, 400),
    new=st.binary(max_size=3) | st.sampled_from([b"-", b"9" * 20, b"NaN"]),
)
def test_no_damage_brings_another_error(at: int, gone: int, new: bytes) -> None:
    """Whatever a file holds, it is read or refused with an error of dynlab."""
    for read, good in ((mooncake, lines(GOOD, GOOD)), (azure, table(f"{MORNING},1,2", f"{MORNING},3,4"))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t")
            path.write_bytes(good[:at] + new + good[at + gone :])
            with suppress(TraceFileError):
                read(path)


# ---------------------------------------------------------------------------- written and read again


@st.composite
def token_workloads(draw: st.DrawFn) -> Workload:
    """Draw workloads whose prompts are a block of 512 or more, in full blocks and a tail with or without an id."""
    n = draw(st.integers(1, 8))
    arrival = sorted(draw(st.lists(st.floats(0, 1e6), min_size=n, max_size=n)))
    isl = [*draw(st.lists(st.integers(0, 3000), min_size=n - 1, max_size=n - 1)), draw(st.integers(1, 3000))]
    osl = draw(st.lists(st.integers(1, 10**8), min_size=n, max_size=n))
    # Each prompt goes on from a beginning of the longest so far: of ids that are used once only, in any order.
    fresh = iter(draw(st.lists(st.integers(0, 2**64 - 1), min_size=48, max_size=48, unique=True)))
    longest: tuple[int, ...] = ()
    ids = []
    for tokens in isl:
        length = draw(st.sampled_from([0, tokens // 512, -(-tokens // 512)]))
        shared = longest[: draw(st.integers(0, length))]
        ids.append(shared + tuple(islice(fresh, length - len(shared))))
        longest = max(longest, ids[-1], key=len)
    return prompts(arrival, isl, osl, ids)


@settings(max_examples=100, deadline=None)
@given(token_workloads(), st.sampled_from(["t.jsonl", "t.jsonl.gz"]))
def test_what_is_written_is_read(workload: Workload, name: str) -> None:
    """Tokens and sequences come back as they were, times to the nanosecond; compressed or not."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_mooncake(workload, Path(folder, name))
        again = mooncake(path)
    assert "t" == again.name
    assert (workload.isl.tolist(), workload.osl.tolist()) == (again.isl.tolist(), again.osl.tolist())
    assert list(workload.sequences) == list(again.sequences)
    # 1e6 s as a float is known to a tenth of a nanosecond.
    np.testing.assert_allclose(workload.arrival_s, again.arrival_s, rtol=0, atol=1e-9)


def test_families_are_written_with_their_own_block_size(tmp_path: Path) -> None:
    """Read with the block size that they were drawn with they are the same prompts; with another they are refused."""
    drawn = prefix_families(50, 3.0, families=3, prefix_blocks=4, unique_blocks=2, seed=5)
    path = save_mooncake(drawn, tmp_path / "t.jsonl")

    again = mooncake(path, block_size=16)

    assert ([*drawn.sequences], drawn.isl.tolist()) == ([*again.sequences], again.isl.tolist())
    assert (16, 50, -1) == (again.block_size, len(again), again.family.max())
    with pytest.raises(TraceFileError, match=r"line 1: hash_ids: .* 1 of them, for 96 tokens at block_size=512"):
        mooncake(path)


def test_what_was_read_is_written_as_it_was(tmp_path: Path) -> None:
    """A file of whole milliseconds is the same file again, also where 1001 / 1000 * 1000 is not 1001."""
    first = tmp_path / "first.jsonl"
    first.write_bytes(lines(*(GOOD | {"timestamp": ms} for ms in (0, 1, 1001, 27482, 3_536_999))))

    second = save_mooncake(mooncake(first), tmp_path / "second.jsonl")

    assert first.read_bytes() == second.read_bytes()


def test_service_times_cannot_be_written(tmp_path: Path) -> None:
    """Mooncake's format holds tokens; no file is made. A folder that is not there is named."""
    with pytest.raises(ConfigError, match="has no prompts"):
        save_mooncake(poisson(3, 1.0), tmp_path / "t.jsonl")
    assert [] == list(tmp_path.iterdir())
    with pytest.raises(TraceFileError, match=r"t\.jsonl cannot be written: No such file"):
        save_mooncake(prefix_families(3, 1.0), tmp_path / "none" / "t.jsonl")


# ---------------------------------------------------------------------------- an hour of a real chat service


@once
def hour() -> Workload:
    return mooncake(TRACE)


@needs_trace
def test_the_published_hour_is_read_whole() -> None:
    """12,031 requests in 59 minutes; each id has one id before it; the last block has one, too, and is rarely full."""
    trace = hour()

    assert (12_031, 3536.999) == (len(trace), trace.duration_s)
    assert (-(-trace.isl // 512)).tolist() == [len(sequence) for sequence in trace.sequences]
    assert 22 == np.count_nonzero(trace.isl % 512 == 0)
    before: dict[int, int | None] = {}
    for sequence in trace.sequences:
        assert all(before.setdefault(block, parent) == parent for parent, block in pairwise((None, *sequence)))


@needs_trace
@pytest.mark.parametrize(
    ("capacity", "plain", "leaves_first"),
    [
        (None, 0.366, 0.366),
        (100_000, 0.364, 0.364),
        (50_000, 0.355, 0.355),
        (30_000, 0.326, 0.326),
        (10_000, 0.211, 0.212),
        (5_859, 0.136, 0.136),
        (1_000, 0.044, 0.045),
    ],
)
def test_prefix_hits_of_the_hour(capacity: int | None, plain: float, leaves_first: float) -> None:
    """The share of blocks that a cache finds is the known one, for an LRU that touches a prompt's first block first.

    `KvCache` gives up a prompt's last block first, keeps beginnings longer for that, and finds a little more.
    """
    sequences = hour().sequences
    blocks = sum(map(len, sequences))
    cache = KvCache(capacity)

    hits = sum(use(cache, sequence) for sequence in sequences)

    assert plain == round(plain_lru_hits(sequences, capacity or blocks, last_first=False) / blocks, 3)
    assert leaves_first == round(hits / blocks, 3)
