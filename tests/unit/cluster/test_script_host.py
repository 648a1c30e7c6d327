"""Inside of a replica: marks of lines, the filter of the server's log, swagger of the public path, modules of v1."""

import importlib.util
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.local import script_host
from cluster.local.script_host import MarkedStream, ServerLogFilter, V1ModuleFinder, began, ended, public_swagger

ID = "8c5a2c3e-0000-4000-8000-3d0b1f7c9a11"
REQUEST = SimpleNamespace(headers=[("HOST", "x"), ("X-MS-REQUEST-ID", ID)])


@pytest.fixture
def in_a_request() -> Iterator[None]:
    began(None, REQUEST)
    yield
    ended(None, REQUEST, {}, None)


def written(*pieces: str) -> str:
    raw = io.BytesIO()
    stream = MarkedStream(raw, encoding="utf-8", write_through=True)
    for piece in pieces:
        print(piece, end="", file=stream)
    return raw.getvalue().decode()


@pytest.mark.usefixtures("in_a_request")
def test_each_line_of_a_request_begins_with_its_id() -> None:
    assert written("a\nb\n", "c", "d\n", "\n", "é") == f"[{ID}] a\n[{ID}] b\n[{ID}] cd\n[{ID}] \n[{ID}] é"


@pytest.mark.usefixtures("in_a_request")
@pytest.mark.parametrize("text", ["10 %\r20 %\r", "a\x0cb\x1cc", "a\u2028b\x85c"])
def test_only_a_line_feed_ends_a_line_of_a_request(text: str) -> None:
    assert written(text) == f"[{ID}] {text}"


def test_lines_outside_of_requests_have_no_mark() -> None:
    assert written("a\n", "b") == "a\nb"
    began(None, SimpleNamespace(headers=[("HOST", "x")]))  # a health probe
    assert written("a\n") == "a\n"


def record(file: str, level: int, message: str, function: str = "f") -> logging.LogRecord:
    return logging.LogRecord("azmlinfsrv", level, f"/site/{file}", 1, message, (), None, function)


def test_lines_per_request_and_false_warnings_of_the_server_are_dropped_and_its_errors_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = ServerLogFilter().filter
    for message in ("POST /score 200 1.2ms 4", "x-ms-request-id header has been deprecated", "run() output is HTTP"):
        assert not passes(record("server/routes.py", logging.WARNING, message))
    assert passes(record("server/routes.py", logging.ERROR, "Encountered Exception"))
    assert passes(record("score.py", logging.INFO, "of the script"))
    assert not passes(record("server/client.py", logging.ERROR, "Error while fetching", "_get_model_ids"))
    monkeypatch.setenv("AZUREML_MODEL_DIR", "x")
    extra = "Found extra keys\nExtra keys = ['AZUREML_MODEL_DIR'{}]"
    assert not passes(record("server/config.py", logging.WARNING, extra.format(""), "check_extra_keys"))
    assert passes(record("server/config.py", logging.WARNING, extra.format(", 'typo'"), "check_extra_keys"))


def test_advice_follows_the_error_of_a_request() -> None:
    found = record("server/routes.py", logging.ERROR, "Encountered Exception")
    try:
        Path("/no/such/model.pkl").read_bytes()
    except FileNotFoundError:
        ServerLogFilter().filter(found)
    assert "scorefront: /no/such/model.pkl does not exist" in found.getMessage()


PUBLIC = "api/v1/service/iris"


def swagger(prefix: str, **more: Any) -> dict[str, Any]:
    return {"schemes": ["https"], "paths": {f"{prefix}/": {}, f"{prefix}/score": {"post": {}}}, **more}


def test_swagger_has_the_path_and_the_scheme_of_the_request() -> None:
    own = swagger(f"/{PUBLIC}")
    assert public_swagger(own, PUBLIC, {"X-Forwarded-Proto": "http"}) == {**own, "schemes": ["http"]}
    pinned = {"X-Forwarded-Prefix": f"/{PUBLIC}/versions/green", "X-Forwarded-Proto": "https"}
    assert list(public_swagger(own, PUBLIC, pinned)["paths"])[1] == f"/{PUBLIC}/versions/green/score"
    bare: dict[str, Any] = {"paths": {"/score": {}}}
    assert public_swagger(bare, "", pinned) == {"paths": {f"/{PUBLIC}/versions/green/score": {}}}


@pytest.mark.parametrize(
    "document", [swagger("/own"), swagger(f"/{PUBLIC}", basePath="/x"), swagger(f"/{PUBLIC}", servers=[]), [], {}]
)
def test_a_swagger_document_of_the_user_stays_as_it_is(document: Any) -> None:
    assert public_swagger(document, PUBLIC, {"X-Forwarded-Proto": "http"}) == document


def module_of_v1(name: str) -> Any:
    """A module of `v1_modules`, loaded as in a replica but not registered."""
    spec = V1ModuleFinder().find_spec(name, None)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_finder_knows_modules_of_azureml_only() -> None:
    assert V1ModuleFinder().find_spec("json", None) is None
    assert V1ModuleFinder().find_spec("azureml.train", None) is None
    assert all(V1ModuleFinder().find_spec(name, None) for name in ("azureml", "azureml.contrib.services.aml_request"))
    assert script_host.V1_MODULES.is_dir()


def test_an_installed_sdk_comes_first_module_by_module(tmp_path: Path) -> None:
    (tmp_path / "azureml/core").mkdir(parents=True)
    extended = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    (tmp_path / "azureml/__init__.py").write_text(extended)
    (tmp_path / "azureml/core/__init__.py").write_text("")
    (tmp_path / "azureml/core/model.py").write_text("Model = 'of the SDK'\n")
    lines = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cluster.local.script_host import V1ModuleFinder",
        "sys.meta_path.append(V1ModuleFinder())",
        "from azureml.core.model import Model; from azureml.monitoring import ModelDataCollector",
        "print(Model, ModelDataCollector.__name__)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "of the SDK ModelDataCollector\n"


@pytest.fixture
def model_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.delenv("AZUREML_MODEL_DIR", raising=False)
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return module_of_v1("azureml.core.model").Model.get_model_path


def file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def test_several_models_are_found_by_name_and_version_the_latest_by_default(
    model_path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "models"
    first, tenth = file(root / "churn/1/m.pkl"), file(root / "churn/10/m.pkl")
    several = file(root / "other/2/a").rpartition("/")[0]
    file(root / "other/2/b")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(root))
    assert model_path("churn") == tenth and model_path("churn", 1) == model_path("churn", version=1) == first
    assert model_path("other", _workspace=object()) == several
    with pytest.raises(ValueError, match="int"):
        model_path("churn", version="1")


def test_one_model_is_the_folder_of_the_version_or_its_only_file(
    model_path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = file(tmp_path / "plain/m.pkl")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path / "plain"))
    assert model_path("any-name") == only
    file(tmp_path / "plain/any-name.json")
    assert model_path("any-name").endswith("any-name.json")
    registered = file(tmp_path / "azureml-models/iris/3/m.pkl")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path / "azureml-models/iris/3"))
    assert model_path("iris") == registered


def test_without_a_model_folder_the_path_is_relative_or_the_model_is_missing(model_path: Any, tmp_path: Path) -> None:
    file(tmp_path / "local.pkl")
    assert model_path("local.pkl") == "local.pkl"
    with pytest.raises(Exception, match="AZUREML_MODEL_DIR is not set"):
        model_path("absent")


def test_a_data_collector_says_once_that_it_keeps_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    collector = module_of_v1("azureml.monitoring.modeldatacollector").ModelDataCollector
    inputs = collector("best", designation="inputs", feature_names=["a"])
    collector("best", identifier="predictions", model_version="1")
    assert inputs.collect([1]) is None and inputs.add_correlations([1], {}) == [1]
    assert capsys.readouterr().out.count("\n") == 1
