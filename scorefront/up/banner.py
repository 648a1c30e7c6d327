"""Terminal output of `scorefront up`: progress while models start, and a sample request for each endpoint."""

import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console

from controlplane.cluster_view import headline
from controlplane.control_errors import NoSuchEndpoint
from controlplane.endpoint_service import EndpointService
from router.settings import SettingError
from scorefront.command_hints import CommandHints, program
from scorefront.up.endpoint_trials import Fetch, model_sample
from scorefront.up.sample_request import SAMPLE_MAX_BYTES
from serving.printable import one_record
from telemetry.payload_records import ROOT

POLL_S = 0.1
PATIENCE_S = 10.0
"""Time without a newly ready endpoint after which models that are still starting are mentioned once; failures are
logged by the provider."""
SHOW_KEYS = "SCOREFRONT_SHOW_KEYS"


class ShowKeys(StrEnum):
    """Outputs on which `up` prints the primary key of an endpoint instead of the command that shows it."""

    ALWAYS = "always"
    TERMINAL = "terminal"
    NEVER = "never"

    def applies(self, on_terminal: bool) -> bool:
        """True if the key is printed, on a terminal or elsewhere (file, journal, build log)."""
        return self is ShowKeys.ALWAYS or (self is ShowKeys.TERMINAL and on_terminal)


def show_keys(environment: Mapping[str, str]) -> ShowKeys:
    """The setting SCOREFRONT_SHOW_KEYS. Raises SettingError with the variable and the rule."""
    text = environment.get(SHOW_KEYS, ShowKeys.ALWAYS)
    try:
        return ShowKeys(text)
    except ValueError as error:
        raise SettingError(f"{SHOW_KEYS}: must be one of {', '.join(ShowKeys)} (got {text!r})") from error


class Banner:
    """Prints each endpoint once, when it is ready, and the dashboard when all are or the others need longer."""

    def __init__(
        self,
        endpoints: EndpointService,
        control_url: str,
        fetch: Fetch,
        redirect_url: str = "",
        token_file: Path | None = None,
        keys: ShowKeys = ShowKeys.ALWAYS,
        store_url: str = "",
    ) -> None:
        """Output for `endpoints`.

        control_url: of the control port, http:// or unix:.
        fetch: gets the description of a model.
        redirect_url: of the redirect for plain HTTP clients; default none.
        token_file: of a required control token; default none.
        keys: outputs for keys.
        store_url: of collected payloads.
        """
        self._endpoints = endpoints
        self._control_url = control_url
        self._fetch = fetch
        self._redirect_url = redirect_url
        self._token_file = token_file
        self._keys = keys
        self._store_url = store_url
        self._hints = CommandHints(control_url, program())
        self._shown: set[str] = set()
        """Endpoints printed."""
        self._told: set[str] = set()
        """Versions mentioned as slow."""
        self._ended = False
        """True once the dashboard is printed."""
        self._console = Console(highlight=False, soft_wrap=True)

    async def show(self) -> None:
        """Print until every endpoint was ready once."""
        quiet_s = 0.0
        with self._console.status("starting …") as status:
            while True:
                missing = self._endpoints.shortfalls()
                waiting_for = {shortfall.key.endpoint for shortfall in missing}
                ready = [name for name in self._endpoints.names() if name not in waiting_for | self._shown]
                for name in ready:
                    await self._endpoint(name)
                if not missing:
                    break
                status.update("waiting for " + ", ".join(f"[bold]{shortfall.key}[/]" for shortfall in missing))
                quiet_s = 0.0 if ready else quiet_s + POLL_S
                if quiet_s >= PATIENCE_S:
                    await self._mention_slow_ones()
                    if self._shown:
                        self._end()
                await asyncio.sleep(POLL_S)
        self._end()

    def say_stopping(self) -> None:
        """A signal has come."""
        self._console.print("stopping …")

    def _end(self) -> None:
        """Print what is common to all endpoints, once."""
        if self._ended:
            return
        self._ended = True
        if self._redirect_url:
            self._console.print(f"\n  [bold]redirect[/]   {self._redirect_url} sends its clients to https")
        self._control()
        self._console.print("  Ctrl-C ends everything.\n")

    def _control(self) -> None:
        """Print the dashboard URL, or the access to the control port without a browser, and its token."""
        if path := self._control_url.removeprefix("unix:") if self._control_url.startswith("unix:") else "":
            self._console.print("\n  [bold]control[/]    ", end="")
            print(f"export SCOREFRONT_URL={shlex.quote(self._control_url)}", flush=True)
            self._console.print("  [bold]dashboard[/]  ", end="")
            print(f"curl --unix-socket {shlex.quote(path)} http://localhost/", flush=True)
        else:
            self._console.print(f"\n  [bold]dashboard[/]  {self._control_url}/")
        if self._token_file is not None:
            self._console.print("  [bold]token[/]      ", end="")
            print(f'export SCOREFRONT_TOKEN="$(cat {shlex.quote(str(self._token_file))})"', flush=True)

    async def _mention_slow_ones(self) -> None:
        for view in await self._endpoints.views():
            name = view["metadata"]["name"]
            for version, status in view["status"]["versions"].items():
                label = f"{name}/{version}"
                if not status["ready"] and label not in self._told:
                    self._told.add(label)
                    log = self._hints.line("logs", name)
                    reason = headline(str(status["message"]))
                    why = f" ({one_record(reason)})" if reason not in ("", "starting") else ""
                    print(f"{label}: still starting{why}; its log: {log}", file=sys.stderr, flush=True)

    async def _endpoint(self, name: str) -> None:
        try:
            view = await self._endpoints.get(name)
        except NoSuchEndpoint:
            return
        self._shown.add(name)
        status, console = view["status"], self._console
        shares = ", ".join(
            f"{version} {round(100 * entry['share'], 2):g} %" for version, entry in status["versions"].items()
        )
        console.print(f"\n[bold green]✓[/] [bold]{name}[/] is ready ({shares})\n")
        console.print(f"  [bold]scoring[/]    {status['scoringUri']}")
        for version in view["spec"]["versions"]:
            if version["dataCollection"]["storageEnabled"]:
                console.print(f"  [bold]collects[/]   {self._store_url}/{ROOT}/{name}/{version['name']}")
        credential = self._credential(name, status["auth"])
        body = await self._body(view)
        console.print("\n  try it:\n")
        # Plain print: a terminal must be able to copy the line as it is.
        print(_curl(status["scoringUri"], credential, body), flush=True)

    def _credential(self, name: str, auth: str) -> str:
        """Print the key, or the command that shows a credential; returns it for a double-quoted word of a shell."""
        if auth == "none":
            return ""
        if auth == "key" and self._keys.applies(self._console.is_terminal):
            key = self._endpoints.keys(name).primary
            self._console.print(f"  [bold]key[/]        {key}")
            return key
        command = self._hints.line("keys" if auth == "key" else "token", name)
        self._console.print("  [bold]key[/]        " if auth == "key" else "  [bold]token[/]      ", end="")
        print(command, flush=True)
        return f"$({command} | awk '/primary/ {{print $2}}')" if auth == "key" else f"$({command})"

    async def _body(self, view: dict[str, Any]) -> str:
        """Argument of `curl -d`: a file beside the source of the model, else what its description has."""
        found = await model_sample(self._endpoints, view, self._fetch)
        if found.path is None:
            return found.text
        return json.dumps(json.loads(found.text)) if len(found.text) <= SAMPLE_MAX_BYTES else f"@{found.path}"


def _curl(url: str, credential: str, body: str) -> str:
    fields = [shlex.quote("Content-Type: application/json")]
    if credential:
        fields.append(f'"Authorization: Bearer {credential}"')
    return f"curl -sS {url} " + " ".join(f"-H {field}" for field in fields) + f" -d {shlex.quote(body)}"
