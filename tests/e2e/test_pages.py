"""Examples of the pages for people who come from other servers: each block runs as pasted, or is a valid manifest."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator

from cluster.kubernetes.objects.crd import crd
from serving.declared_model import DeclaredModel
from serving.manifest import parse
from tests.unit.cluster.kubernetes.objects.test_cel_rules import refusals

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    *("from-azure-ml.md", "own-servers.md", "from-knative-kserve.md", "cluster-replicas.md", "rest.md"),
    *("data-collection.md", "telemetry.md"),
)
PORTS = ("8080", "8081", "9400")
"""Ports in the examples; the test uses free ones."""
_BLOCK = re.compile(r"^(?:<!-- (\w+): (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LONG_RUNNING = re.compile(r"(?:\w+=\S+ )*(scorefront up\b|python -m uvicorn )")
START_S = 60.0

VLLM = '''#!{python}
"""Stand-in for vLLM: its paths, and answers of the same shape."""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions" or "Authorization" in self.headers:
            return self.answer(404, b"")
        message = {{"model": body["model"], "choices": [{{"message": {{"content": "Hi"}}}}]}}
        if body.get("stream"):
            return self.answer(200, b"data: " + json.dumps(message).encode() + b"\\n\\ndata: [DONE]\\n\\n")
        self.answer(200, json.dumps(message).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

assert sys.argv[1] == "serve"
ThreadingHTTPServer((sys.argv[4], int(sys.argv[6])), Handler).serve_forever()
'''


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment before it, as in `<!-- file: app.py -->`."""

    comment: tuple[str, str]
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    found = _BLOCK.findall((DOCS / page).read_text())
    return [Block((word, value), language, text) for word, value, language, text in found]


def manifests(page: str) -> list[Any]:
    """Manifests of a page that are declared, not run."""
    texts = [block.text for block in blocks(page) if block.comment == ("check", "cluster")]
    return [document for text in texts for document in yaml.safe_load_all(text)]


@dataclass
class Reader:
    """A reader of a page, in an empty folder: pastes its blocks, long-running ones into terminals of their own."""

    folder: Path
    ports: dict[str, int]
    printed: list[str] = field(default_factory=list)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def put_programs(self) -> None:
        """`scorefront`, `python` and `vllm` as the page expects them."""
        programs = {
            "scorefront": f'#!/bin/sh\nif [ "$1" = up ]; then shift; set -- up --listen 127.0.0.1:{self.ports["8080"]}'
            f' --control 127.0.0.1:{self.ports["8081"]} "$@"; fi\nexec {sys.executable} -m scorefront "$@"\n',
            "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
            "vllm": VLLM.format(python=sys.executable),
        }
        for name, text in programs.items():
            path = self.folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def follow(self, page: str) -> str:
        """Paste every block; returns what the commands printed."""
        for block in blocks(page):
            text = block.text
            for port, free in self.ports.items():
                text = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{free}", text)
            if block.comment[0] == "file":
                (self.folder / block.comment[1]).write_text(text)
            elif block.language == "sh" and _LONG_RUNNING.match(text):
                self.start(text.strip())
            elif block.language == "sh":
                self.paste(text)
        return "\n".join(self.printed)

    def start(self, line: str) -> None:
        """Run in a terminal of its own, in the place of an earlier one of the same program; until it is ready."""
        program = next(word for word in line.split() if "=" not in word)
        self.stop(program)
        with (self.folder / f"{program}.log").open("ab") as log:
            self.running[program] = subprocess.Popen(
                ["bash", "-c", f"exec env {line}"], cwd=self.folder, env=self.environment(), stdout=log, stderr=log
            )
        if program == "scorefront":
            url = f"http://127.0.0.1:{self.ports['8081']}/readyz"
        else:
            url = f"http://127.0.0.1:{self.ports['9400']}/healthz"
        deadline = time.monotonic() + START_S
        while not answers(url):
            log_text = (self.folder / f"{program}.log").read_text()
            assert self.running[program].poll() is None and time.monotonic() < deadline, log_text
            time.sleep(0.05)  # interval of the polls

    def paste(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.printed.append(done.stdout)

    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "SCOREFRONT_URL": f"http://127.0.0.1:{self.ports['8081']}"}

    def stop(self, program: str) -> None:
        if process := self.running.pop(program, None):
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGTERM)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {port: sock.getsockname()[1] for port, sock in zip(PORTS, sockets, strict=True)}
    for sock in sockets:
        sock.close()
    reader = Reader(tmp_path, ports)
    reader.put_programs()
    yield reader
    for program in list(reader.running):
        reader.stop(program)


def test_the_examples_with_own_servers_run_as_pasted(reader: Reader) -> None:
    printed = reader.follow("own-servers.md")
    assert printed.count('{"mean":3.0}') == 2 and '"/predict"' in printed
    assert '"content": "Hi"' in printed and "data: [DONE]" in printed
    assert printed.rstrip().endswith('{"mean":4.0}')


@pytest.mark.timeout(400)
def test_the_files_script_and_key_of_azure_ml_are_used_as_pasted(reader: Reader) -> None:
    printed = reader.follow("from-azure-ml.md")
    assert printed.count('{"result": [3, 6]}') == 2 and "Healthy {'result': [3, 6]}" in printed


def test_the_rest_calls_run_as_pasted(reader: Reader) -> None:
    printed = reader.follow("rest.md")
    assert '"ready": true' in printed
    assert "x-scorefront-outcome: unchanged" in printed
    assert re.search(r'\{"sum":\s*3\}', printed)
    assert "endpoint sum unchanged" in printed


def test_the_examples_of_collected_data_run_as_pasted(reader: Reader) -> None:
    printed = reader.follow("data-collection.md")
    assert '"sum": 3' in printed and '"$aml_request_id"' in printed
    assert re.search(r"first +request +[0-9a-f-]{36} +16 ", printed)


def test_the_examples_of_history_and_telemetry_run_as_pasted(reader: Reader) -> None:
    printed = reader.follow("telemetry.md")
    assert '"version": "second"' in printed and '"p95Ms"' in printed
    assert "no difference yet" in printed
    told = (reader.folder / "scorefront.log").read_text()
    assert '"name": "POST /api/v1/service/traced"' in told and '"response_code": 200' in told


@pytest.mark.parametrize(
    "document", [each for page in PAGES for each in manifests(page)], ids=lambda each: str(each["metadata"]["name"])
)
def test_a_manifest_for_a_cluster_is_valid_there(document: dict[str, Any]) -> None:
    parse(document)
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert [error.message for error in OAS30Validator(schema).iter_errors(document)] == []
    assert refusals(document) == set()


def test_every_yaml_block_is_run_or_checked() -> None:
    examples = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert examples and [block.text for block in examples if not block.comment[0]] == []


def test_the_table_of_knative_names_fields_that_exist() -> None:
    rows = [line.split(" | ") for line in (DOCS / "from-knative-kserve.md").read_text().splitlines() if " | " in line]
    named = {name for row in rows for name in re.findall(r"`([a-zA-Z.\[\]]+)`", row[1])}
    fields = {name for model in DeclaredModel.__subclasses__() for name in model.model_fields}
    known = {name for name in named if name.replace("[]", "").split(".")[-1] in fields}
    assert len(named) >= 10 and named - known == set()
