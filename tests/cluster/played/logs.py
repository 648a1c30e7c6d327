"""Answers for the logs of containers as a node agent does, so that `kubectl logs` works: HTTPS, any certificate."""

import asyncio
import ssl
import tempfile
from pathlib import Path

from aiohttp import web

from loadtests.bench.certificate import write_certificate

LOOK_S = 0.1


class Logs:
    """Listens while it is entered, on a port that the system chooses."""

    def __init__(self, folder: Path) -> None:
        """`folder`: holds NAMESPACE_POD_CONTAINER.log."""
        self._folder = folder
        self.port = 0

    async def __aenter__(self) -> "Logs":
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*write_certificate(Path(folder)))
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context, shutdown_timeout=0.5)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = "_".join(request.match_info[part] for part in ("namespace", "pod", "container"))
        path = self._folder / f"{name}.log"
        if not path.exists():
            return web.Response(status=404, text="no such log")
        response = web.StreamResponse()
        await response.prepare(request)
        with path.open("rb") as file:
            lines = file.readlines()
            wanted = request.query.get("tailLines")
            await response.write(b"".join(lines[-int(wanted) :] if wanted else lines))
            while request.query.get("follow") == "true":
                await asyncio.sleep(LOOK_S)
                if more := file.read():
                    await response.write(more)
        return response
