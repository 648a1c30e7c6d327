"""A plain relay as one writes it with aiohttp: `python -m loadtests.peers.relay PORT UPSTREAM_PORT`."""

import importlib.metadata
import sys

import aiohttp
import uvloop
from aiohttp import web

from loadtests.peers.rig import Rig, Target


def version() -> str:
    """Versions of its parts."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("aiohttp", "uvloop"))


def start(rig: Rig, upstream: int) -> Target:
    """The relay in front of this port."""
    (port,) = rig.free_ports()
    pid = rig.start_module("relay", "loadtests.peers.relay", port, str(port), str(upstream), proxy=True)
    return Target("aiohttp relay", port, pids=(pid,))


async def _app(upstream: str) -> web.Application:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def relay(request: web.Request) -> web.Response:
        async with session.request(request.method, upstream + request.raw_path, data=await request.read()) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", relay)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        _app(f"http://127.0.0.1:{sys.argv[2]}"), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None
    )
