"""From the words after `scorefront up` to the command, without running it."""

from pathlib import Path

import pytest
import yaml

from scorefront.cli.app import run
from scorefront.up.installation import UpOptions

ROOT = Path(__file__).parents[4]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[UpOptions]:
    """The command that would have been run; it ends with status 7."""
    given: list[UpOptions] = []

    def take(options: UpOptions) -> int:
        given.append(options)
        return 7

    monkeypatch.setattr("scorefront.up.installation.run", take)
    return given


def test_up_without_a_word_has_the_documented_defaults(
    ran: list[UpOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["up"]) == 7
    assert ran == [UpOptions((), tmp_path / ".scorefront", ("127.0.0.1", 8080), ("127.0.0.1", 8081))]


def test_every_option_reaches_its_setting(ran: list[UpOptions], tmp_path: Path) -> None:
    manifest = ROOT / "examples" / "iris" / "endpoint.yaml"
    words = ["-f", str(manifest), "--state-dir", str(tmp_path / "state"), "--listen", "0.0.0.0:80"]
    words += ["--control", "[::1]:81", "--workers", "1", "--access-log", "all"]
    assert run(["up", *words]) == 7
    ((name, document),) = ran[0].documents
    assert name == str(manifest)
    assert document["metadata"] == yaml.safe_load(manifest.read_text())["metadata"]
    given = (ran[0].state_dir, ran[0].listen, ran[0].control, ran[0].workers, ran[0].access_log)
    assert given == (tmp_path / "state", ("0.0.0.0", 80), ("::1", 81), 1, "all")
    assert (ran[0].tls, ran[0].tls_redirect) == ((), None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--listen", "127.0.0.1:9", "--control", "127.0.0.1:9"], "--listen and --control: must differ"),
        (["--control", "nowhere"], "--control: must be HOST:PORT"),
        (["--tls-redirect", "127.0.0.1:80"], "--tls-redirect: needs --tls-cert"),
        (["--workers", "0"], "--workers: must be"),
        (["-f", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--store", "ftp://host/x"], "--store: must be a folder or begin with file://, s3://"),
        (["--store", "s3://"], "--store: must name a bucket or container, as in s3://NAME/FOLDER; got 's3://'"),
    ],
)
def test_options_that_cannot_be_run_are_refused_by_name(
    ran: list[UpOptions], words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", *words]) == 2
    assert told in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize(
    ("store", "url"), [("s3://bucket/x", "s3://bucket/x"), ("models", "{here}/models"), ("/srv/x", "/srv/x")]
)
def test_the_store_is_a_url_or_a_folder_here(
    ran: list[UpOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["up", "--store", store]) == 7
    assert ran[0].store == url.format(here=tmp_path)


def test_port_0_may_stand_for_both_addresses(ran: list[UpOptions], tmp_path: Path) -> None:
    words = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--state-dir", str(tmp_path)]
    assert run(["up", *words]) == 7
    assert ran[0].listen == ran[0].control == ("127.0.0.1", 0)
