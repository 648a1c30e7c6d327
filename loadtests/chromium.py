"""Headless Chromium over the DevTools protocol: pages, their errors, keys and screenshots."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp

PATIENCE_S = 30.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0", "--hide-scrollbars"),
)


def program() -> str | None:
    """Path of a Chromium; None without one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One Chromium with one page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._last = 0
        self.errors: list[str] = []
        """Errors of the console, exceptions, and requests that failed, since the start."""
        self.requests: list[str] = []
        """URLs asked for."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = future
        await self._socket.send_json(message)
        async with asyncio.timeout(PATIENCE_S):
            return await future

    async def listen(self) -> None:
        """Read messages until the browser ends."""
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                future = self._waiting.pop(found["id"])
                if "error" in found:
                    future.set_exception(RuntimeError(found["error"]["message"]))
                else:
                    future.set_result(found["result"])
            else:
                self._note(found["method"], found["params"])

    def _note(self, event: str, seen: dict[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                details = seen["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if seen["type"] in ("error", "warning", "assert"):
                self.errors.append(
                    f"{seen['type']}: {[each.get('description', each.get('value')) for each in seen['args']]}"
                )
            case "Log.entryAdded" if seen["entry"]["level"] in ("error", "warning"):
                self.errors.append(f"{seen['entry']['text']} {seen['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(seen["request"]["url"])
            case "Network.loadingFailed" if not seen.get("canceled"):
                self.errors.append(f"a request failed: {seen['errorText']}")

    async def begin(self) -> Self:
        """Attach to a page of its own."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def size(self, width: int, height: int = 900) -> None:
        """Set the size of the page in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)

    async def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`, as the system's setting does."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def go(self, url: str) -> None:
        """Open an address."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", expression))
        return found["result"].get("value")

    async def until(self, expression: str, holds: Callable[[Any], bool] = bool) -> Any:
        """Value of an expression once it holds; fails with the last one after PATIENCE_S."""
        seen: Any = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(RuntimeError):  # the page is being replaced
                        seen = await self.value(expression)
                        if holds(seen):
                            return seen
                    await asyncio.sleep(0.05)  # interval of the polls
        except TimeoutError:
            text = await self.value("document.body.innerText")
            raise AssertionError(f"{expression}: {seen!r}\n{text}\n{self.errors}") from None

    async def press(self, key: str, code: int = 0, modifiers: int = 0) -> None:
        """Press and release a key. `code`: its virtual key code. `modifiers`: 2 is Ctrl, 8 is Shift."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        common = {"key": key, "windowsVirtualKeyCode": code or ord(key[0]), "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def screenshot(self, kind: str = "png", whole: bool = True) -> bytes:
        """A picture of the page. `kind`: png or webp. `whole`: beyond the window, too."""
        quality = {"quality": 82} if kind == "webp" else {}
        found = await self.call("Page.captureScreenshot", format=kind, captureBeyondViewport=whole, **quality)
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile in `folder`."""
    found = program()
    assert found is not None
    profile = folder / "profile"
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        found, *OPTIONS, f"--user-data-dir={profile}", stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        address = await _address(profile / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            made = Browser(socket)
            listening = asyncio.create_task(made.listen(), name="listen to the browser")
            try:
                yield await made.begin()
            finally:
                listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own group: the profile is thrown away
        await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                port, path = (await asyncio.to_thread(file.read_text)).split()
                return f"ws://127.0.0.1:{port}{path}"
            assert process.returncode is None, "Chromium has ended"
            await asyncio.sleep(0.05)  # interval of the polls
