"""What the tiers say to each other, and how one waits for another."""

import asyncio

from pydantic import BaseModel


class GeneralRequest(BaseModel):
    prompt: str = "user input"
    request_id: str = "id_string"


class GeneralResponse(BaseModel):
    worker_output: str = "generated output"
    request_id: str = "id_string"


async def check_required_workers(client, required, poll_interval=0.01, tag=""):
    ids = client.endpoint_ids()
    print(f" {tag} Waiting for more workers.\n Current: {len(ids)}, Required: {required}", flush=True)  # noqa: T201
    while len(ids) < required:
        await asyncio.sleep(poll_interval)
        ids = client.endpoint_ids()
    return ids
