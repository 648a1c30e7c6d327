"""Request for the API description of a replica."""

import json
from typing import Any

import aiohttp

TIMEOUT_S = 5.0
MAX_BYTES = 1_000_000


async def fetch(host: str, port: int) -> Any:
    """The swagger.json of a replica; None without one. Outside the slots, as a health probe."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.get(f"http://{host}:{port}/swagger.json", allow_redirects=False) as response,
        ):
            body = await response.content.read(MAX_BYTES)
            return json.loads(body) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError):
        return None
