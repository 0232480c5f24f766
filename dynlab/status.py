"""What a discovery backend of Dynamo's holds: files on this machine, or etcd (lib/runtime/src/discovery, 1.6.1)."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dynlab.errors import ConfigError

__all__ = ("status_lines",)

_INSTANCES = "v1/instances/"


def status_lines(discovery: str) -> Iterator[str]:
    """Say what is served now: a line for each namespace, component, endpoint and instance.

    Args:
        discovery: "file", in `DYN_FILE_KV`; or "etcd", at `ETCD_ENDPOINTS`.

    Raises:
        ConfigError: if the backend cannot be asked.
    """
    where, records = _from_files() if discovery == "file" else _from_etcd()
    instances = sorted(_readable(records), key=lambda r: (*_names(r), r["instance_id"]))
    if not instances:
        yield f"Nothing is served, as far as {where} says."
        return
    yield f"{where}:"
    before: tuple[str, ...] = ()
    for record in instances:
        names = _names(record)
        for depth, name in enumerate(names):
            if names[: depth + 1] != before[: depth + 1]:
                yield f"{'  ' * depth}{('namespace', 'component', 'endpoint')[depth]} {name}"
        before = names
        transport = record.get("transport")
        address = next(iter(transport.values()), "") if isinstance(transport, dict) else transport
        yield f"      instance {record['instance_id']} at {str(address).partition('/')[0]}"


def _names(record: dict[str, Any]) -> tuple[str, ...]:
    return str(record["namespace"]), str(record["component"]), str(record["endpoint"])


def _readable(records: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    for text in records:
        try:
            record = json.loads(text)
        except ValueError:
            continue  # half written, or something else
        if isinstance(record, dict) and {"namespace", "component", "endpoint", "instance_id"} <= record.keys():
            yield record


def _from_files() -> tuple[str, list[str]]:
    # Dynamo's default is in the directory for temporary files.
    folder = Path(os.environ.get("DYN_FILE_KV") or Path(tempfile.gettempdir()) / "dynamo_store_kv")
    found = []
    for path in sorted((folder / _INSTANCES).glob("*")):
        try:
            found.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue  # gone in the meantime
    return str(folder), found


def _from_etcd() -> tuple[str, list[bytes]]:
    import httpx  # noqa: PLC0415 - loads slowly

    endpoint = os.environ.get("ETCD_ENDPOINTS", "http://localhost:2379").split(",")[0].strip().rstrip("/")
    first = _INSTANCES.encode()
    last = first[:-1] + bytes([first[-1] + 1])  # all keys that begin so
    body = {"key": base64.b64encode(first).decode(), "range_end": base64.b64encode(last).decode()}
    try:
        answer = httpx.post(f"{endpoint}/v3/kv/range", json=body, timeout=5.0)
        answer.raise_for_status()
        values = [base64.b64decode(entry["value"]) for entry in answer.json().get("kvs", [])]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        raise ConfigError(
            f"etcd at {endpoint} cannot be asked: {type(error).__name__}: {error}. Is it running? ETCD_ENDPOINTS says "
            "where."
        ) from None
    return f"etcd at {endpoint}", values
