"""Terminal output of `scorefront up`: progress while models start, then a sample request."""

import asyncio
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console

from controlplane.endpoint_service import EndpointService
from router.settings import SettingError

POLL_S = 0.1
PATIENCE_S = 10.0
"""Time after which a model that is still starting is mentioned once; failures are logged by the provider."""
SAMPLE_MAX_BYTES = 2000
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
    """Prints readiness once, and changes of problems."""

    def __init__(
        self,
        endpoints: EndpointService,
        control_url: str,
        documents: Sequence[dict[str, Any]],
        redirect_url: str = "",
        token_file: Path | None = None,
        keys: ShowKeys = ShowKeys.ALWAYS,
    ) -> None:
        """`plane`: the control plane.

        control_url: of the control port, http:// or unix:. documents: the manifests it was started with.
        redirect_url: of the redirect for plain HTTP clients; default none. token_file: of a required control token;
        default none. keys: outputs for keys.
        """
        self._endpoints = endpoints
        self._control_url = control_url
        self._redirect_url = redirect_url
        self._token_file = token_file
        self._keys = keys
        self._documents = {document["metadata"]["name"]: document for document in documents}
        self._reported: set[str] = set()
        """Versions mentioned as slow."""
        self._console = Console(highlight=False, soft_wrap=True)

    async def show(self) -> None:
        """Wait until every endpoint is ready, then print; goes on telling of endpoints that stop being ready."""
        waited = 0.0
        console = self._console
        with console.status("starting …") as status:
            while missing := self._endpoints.shortfalls():
                status.update("waiting for " + ", ".join(f"[bold]{shortfall.key}[/]" for shortfall in missing))
                if waited >= PATIENCE_S:
                    await self._tell_of_slow_ones()
                await asyncio.sleep(POLL_S)
                waited += POLL_S
        for view in await self._endpoints.views():
            self._endpoint(view)
        if self._redirect_url:
            console.print(f"\n  [bold]redirect[/]   {self._redirect_url} sends its clients to https")
        self._control()
        console.print("  Ctrl-C ends everything.\n")

    def say_stopping(self) -> None:
        """A signal has come."""
        self._console.print("stopping …")

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

    async def _tell_of_slow_ones(self) -> None:
        for view in await self._endpoints.views():
            for name, version in view["status"]["versions"].items():
                label = f"{view['metadata']['name']}/{name}"
                if not version["ready"] and label not in self._reported:
                    self._reported.add(label)
                    log = f"scorefront logs {view['metadata']['name']}"
                    print(f"{label}: still starting; its log: {log}", file=sys.stderr, flush=True)

    def _endpoint(self, view: dict[str, Any]) -> None:
        name, status = view["metadata"]["name"], view["status"]
        console = self._console
        shares = ", ".join(
            f"{version} {round(100 * entry['share'], 2):g} %" for version, entry in status["versions"].items()
        )
        console.print(f"\n[bold green]✓[/] [bold]{name}[/] is ready ({shares})\n")
        console.print(f"  [bold]scoring[/]    {status['scoringUri']}")
        credential = ""
        if status["auth"] == "key":
            if self._keys.applies(console.is_terminal):
                credential = self._endpoints.keys(name).primary
                console.print(f"  [bold]key[/]        {credential}")
            else:
                console.print(f"  [bold]key[/]        scorefront keys {name}")
                credential = "KEY"
        elif status["auth"] == "token":
            console.print(f"  [bold]token[/]      scorefront token {name}")
            credential = "TOKEN"
        console.print("\n  try it:\n")
        # Plain print: a terminal must be able to copy the line as it is.
        print(_curl(status["scoringUri"], credential, self._sample(name)), flush=True)

    def _sample(self, name: str) -> str:
        """A body that the model understands: sample.json beside the model's source, if there is one."""
        for version in self._documents.get(name, {}).get("spec", {}).get("versions", []):
            source = version.get("replica", {}).get("sourceDirectory")
            path = Path(source) / "sample.json" if source else None
            if path is not None and path.is_file() and path.stat().st_size <= SAMPLE_MAX_BYTES:
                try:
                    return json.dumps(json.loads(path.read_text()))
                except ValueError:
                    continue
        return '{"data": []}'


def _curl(url: str, credential: str, body: str) -> str:
    headers = ["Content-Type: application/json"]
    if credential:
        headers.append(f"Authorization: Bearer {credential}")
    return f"curl -sS {url} " + " ".join(f"-H {shlex.quote(h)}" for h in headers) + f" -d {shlex.quote(body)}"
