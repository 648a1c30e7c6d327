"""kubectl as a user has it, with the KUBECONFIG of the environment."""

import asyncio
import json
from typing import Any

PATIENCE_S = 120.0


class Refused(Exception):
    """kubectl ended with a status other than 0; the text is its output."""


async def kubectl(*arguments: str, text: str = "") -> str:
    """The output of kubectl. `text`: for `-f -`. Raises Refused."""
    process = await asyncio.create_subprocess_exec(
        "kubectl",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, complaints = await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Refused(complaints.decode().strip())
    return out.decode()


async def apply(*arguments: str, text: str = "") -> str:
    """`kubectl apply`, which validates all fields. Raises Refused."""
    return await kubectl("apply", *arguments, text=text)


async def apply_object(*documents: dict[str, Any], namespace: str) -> str:
    """`kubectl apply -f -`. Raises Refused."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    text = json.dumps(documents[0] if len(documents) == 1 else listed)
    return await apply("-n", namespace, "-f", "-", text=text)
