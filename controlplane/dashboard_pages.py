"""The files of the dashboard: one page, its stylesheet and scripts, as they are in `controlplane/dashboard`."""

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

from aiohttp import web

from controlplane.rest_guard import Handler

TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
PAGE: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: nothing from elsewhere, nothing inline."""


def dashboard_handlers() -> dict[str, Handler]:
    """Handlers of the operations `dashboard` and `dashboardFile`."""
    files = dashboard_files()
    tags = {name: hashlib.sha256(body).hexdigest()[:32] for name, body in files.items()}

    async def page(request: web.Request) -> web.StreamResponse:
        return _response(request, PAGE)

    async def file(request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if name not in files or name == PAGE:
            raise web.HTTPNotFound
        return _response(request, name)

    def _response(request: web.Request, name: str) -> web.Response:
        """A file; 304 for a browser that has it. The page itself is always sent whole: it is small."""
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": f'"{tags[name]}"'}
        known = {each.value for each in request.if_none_match or ()}
        if tags[name] in known:
            return web.Response(status=304, headers=headers)
        kind = TYPES[name[name.rindex(".") :]]
        return web.Response(body=files[name], content_type=kind, charset="utf-8", headers=headers)

    return {"dashboard": page, "dashboardFile": file}


def dashboard_files() -> Mapping[str, bytes]:
    """Name -> content of every file of the dashboard."""
    folder = resources.files("controlplane.dashboard")
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(tuple(TYPES))}
