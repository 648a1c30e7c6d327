"""A small HTTP server with scripted responses and a record of its requests; for blocking clients."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def answer_json(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class ScriptedServer:
    """Answers by `method path` (without the query); other requests get a 500."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []

    def on(self, method_and_path: str, answer: Answer) -> None:
        """One answer for every request; a path that ends in `*` stands for all that begin so."""
        self.sequence(method_and_path, [answer])

    def sequence(self, method_and_path: str, answers: list[Answer]) -> None:
        """One answer after the other; the last one stays."""
        self.answers[method_and_path] = answers

    def answer_to(self, method_and_path: str) -> Answer:
        """The answer to a request."""
        found = self.answers.get(method_and_path) or next(
            (each for key, each in self.answers.items() if key[-1] == "*" and method_and_path.startswith(key[:-1])),
            [Answer(500, b"not scripted")],
        )
        return found.pop(0) if len(found) > 1 else found[0]


@contextmanager
def scripted_server(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """On a port the system chose, until the block ends. `tls`: with a certificate of localhost; None: plain HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append(Asked(self.command, self.path, headers, body))
            answer = script.answer_to(f"{self.command} {self.path.partition('?')[0]}")
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = ScriptedServer(f"http://127.0.0.1:{server.server_port}")
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        script.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
