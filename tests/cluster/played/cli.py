"""The command line of the product, as a user of an installation runs it."""

import asyncio
import base64
import os
import sys
from pathlib import Path

from tests.cluster.played.images import CACHED, ROOT
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import HOME, REST_PORT, Site


async def authority(site: Site) -> Path:
    """The file with the certificate authority of the installation."""
    secret = await site.kube.get(f"/api/v1/namespaces/{HOME}/secrets/scorefront-peers")
    file = site.folder / "scorefront-ca.crt"
    file.write_bytes(base64.b64decode(secret["data"]["ca.crt"]))
    return file


async def scorefront(site: Site, *arguments: str) -> str:
    """The command line, against a control process that is Ready, if any is. Raises AssertionError with its output."""
    pods = sorted(await site.controls(), key=is_ready, reverse=True)
    secret = f"/api/v1/namespaces/{HOME}/secrets/scorefront-control-token"
    token = (await site.kube.get(secret))["data"]["token"]
    environment = {
        **os.environ,
        **CACHED,
        "SCOREFRONT_URL": f"https://{pods[0]['status']['podIP']}:{REST_PORT}",
        "SCOREFRONT_CA": str(await authority(site)),
        "SCOREFRONT_TOKEN": base64.b64decode(token).decode(),
    }
    status, out, complaints = await _run(environment, *arguments)
    assert status == 0, complaints
    return out


async def doctor(namespaces: str = "*") -> tuple[int, str]:
    """Exit status and output of `scorefront doctor`, from outside. `namespaces`: those that are served."""
    environment = {**os.environ, **CACHED, "SCOREFRONT_NAMESPACE": HOME, "SCOREFRONT_NAMESPACES": namespaces}
    status, out, _ = await _run(environment, "doctor")
    return status, out


async def _run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scorefront", *arguments), stdout=pipe, stderr=pipe, env=environment, cwd=ROOT
    )
    out, complaints = await process.communicate()
    return int(process.returncode or 0), out.decode(), complaints.decode()
