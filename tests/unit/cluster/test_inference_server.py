"""gunicorn's settings of a replica: complete on one machine, and alone in an image."""

import importlib.util
import re
import shutil
import socket
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]
SETTINGS = ROOT / "cluster/local/inference_server.py"


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_of_a_replica", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def worker() -> SimpleNamespace:
    """A gunicorn worker with one listener."""
    return SimpleNamespace(sockets=[SimpleNamespace(sock=None, accept="as gunicorn does")])


def test_on_one_machine_a_worker_takes_connections_of_its_own_user_and_of_root_only() -> None:
    settings = loaded(SETTINGS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        worker = SimpleNamespace(sockets=[SimpleNamespace(sock=listener, accept=None)])
        settings.post_fork(None, worker)
        with socket.create_connection(listener.getsockname()[:2]):
            client, _ = worker.sockets[0].accept()
            client.close()
        nobody: frozenset[int] = frozenset()
        with socket.create_connection(listener.getsockname()[:2]), pytest.raises(BlockingIOError):
            settings.accept(listener, nobody, settings.socket_owner)


def test_in_an_image_every_connection_is_taken(tmp_path: Path, worker: SimpleNamespace) -> None:
    """Copies what the Dockerfile copies."""
    copied = re.findall(
        r"^COPY (cluster/local/.*) (\S+)$", (ROOT / "examples/iris/Dockerfile").read_text(), re.MULTILINE
    )
    for sources, target in copied:
        place = tmp_path / target.removeprefix("/srv/iris/")
        for source in sources.split():
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, place)
    assert {file.name for file in tmp_path.iterdir()} == {
        "server.py",
        "script_host.py",
        "script_advice.py",
        "v1_modules",
    }
    settings = loaded(tmp_path / "server.py")
    settings.post_fork(None, worker)
    assert worker.sockets[0].accept == "as gunicorn does"
    assert settings.timeout > 0 and settings.wsgi_app.startswith(settings.script_host.__name__)


@pytest.mark.parametrize(
    ("served", "deaths_in_row", "others_serve", "ends"),
    [
        (False, 1, False, True),  # it never served: the first death in init() decides
        (True, 0, False, False),  # a worker died in run(): gunicorn starts another
        (True, 1, False, False),
        (True, 2, False, True),  # and that one dies in init() again and again
        (True, 5, True, False),  # the others serve on
    ],
)
def test_a_server_ends_when_init_ends_its_workers(
    served: bool, deaths_in_row: int, others_serve: bool, ends: bool
) -> None:
    assert loaded(SETTINGS).ends_server(served, deaths_in_row, others_serve) is ends


def test_a_worker_that_fails_to_boot_halts_the_server_once_whatever_the_others_do() -> None:
    settings = loaded(SETTINGS)
    ended = ["first", "second", "third"]

    def collect() -> None:
        while ended:
            raise settings.HaltServer(f"{ended.pop(0)} failed to boot", 3)

    server = SimpleNamespace(WORKERS={}, LISTENERS=["one"], reap_workers=collect)
    settings.on_starting(server)
    with pytest.raises(settings.HaltServer):
        server.reap_workers()
    server.LISTENERS = []  # it is stopping
    server.reap_workers()
    assert ended == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", "[1]", "must be a JSON object, is a JSON list"),
        ("config.json", '{\n  // my workspace\n  "a": 1}', "line 2 column 3"),
        ("config.json", b"\xff\xfe{}", "codec"),
        ("logging.json", "{nope", "line 1 column 2"),
        ("logging.json", '{"version": 2}', "Unsupported version: 2"),
        (
            "logging.json",
            '{"version": 1, "handlers": {"f": {"class": "logging.FileHandler", "filename": "/no/such/x.log"}}}',
            "No such file or directory: '/no/such/x.log'",
        ),
        ("logging.json", '{"version": 1, "handlers": {"f": {"class": "no.such.Handler"}}}', "No module named 'no'"),
        ("swagger2.json", "", "line 1 column 1"),
        ("swagger3.json", "{", "line 1 column 2"),
        ("config.json", '{"subscription_id": "x"}', ""),
        ("config.json", "", ""),
        ("score.json", "[1", ""),
    ],
)
@pytest.mark.parametrize("place", ["source", "script"])
def test_a_broken_file_beside_the_script_is_named(
    tmp_path: Path, name: str, text: str | bytes, told: str, place: str
) -> None:
    folders = {"source": tmp_path, "script": tmp_path / "code"}
    folders["script"].mkdir()
    path = folders[place] / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    environment = {"AML_APP_ROOT": str(tmp_path), "AZUREML_ENTRY_SCRIPT": str(tmp_path / "code" / "score.py")}
    faults = list(loaded(SETTINGS).broken_files(environment))
    if told:
        (fault,) = faults
        assert fault.startswith(f"{path}: ") and told in fault
    else:
        assert faults == []
