"""Rules of builds: interpreters, settings of pip, output of uv, folders of environments."""

import os
from pathlib import Path

import pytest

from workspace.builders import pip_settings
from workspace.builders.environment_folders import KEPT_S, EnvironmentFolders
from workspace.builders.interface import BuildError
from workspace.builders.interpreters import Interpreter, choose
from workspace.builders.uv_output import UvOutput, failure, is_network_failure, network_reason


def python(release: str) -> Interpreter:
    return Interpreter(Path(f"/opt/{release}/bin/python"), tuple(map(int, release.split("."))))


OWN = python("3.11.7")
FOUND = [python(release) for release in ("2.7.18", "3.7.16", "3.9.18", "3.10.1", "3.10.13", "3.11.2", "3.13.0")]


@pytest.mark.parametrize(
    ("wanted", "release", "warned"),
    [
        *(("", "3.11.7", False), ("3.11", "3.11.7", False), ("3.10", "3.10.13", False), ("3.10.1", "3.10.1", False)),
        *(("3.8", "3.9.18", True), ("3.12", "3.13.0", True), ("3.9.2", "3.9.18", True), ("3.6", "3.9.18", True)),
    ],
)
def test_the_wanted_release_is_taken_else_the_nearest_newer_one(wanted: str, release: str, warned: bool) -> None:
    chosen, warning = choose(wanted, FOUND, OWN)
    assert chosen == python(release) and bool(warning) is warned
    assert not warned or f"python={wanted} is not on this machine" in warning


def test_a_release_newer_than_all_is_refused_with_those_found() -> None:
    with pytest.raises(BuildError, match=r"python: python=3\.14 is not on this machine.*3\.11\.7"):
        choose("3.14", FOUND, OWN)


def test_settings_of_pip_are_those_of_all_files_and_of_its_variables(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a/simple\nextra-index-url = https://b/s\n  https://c/s\n"
        "[install]\nfind_links = /w\n"
    )
    environ = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "https://u:p@d/simple",
        "PIP_CERT": "/ca",
    }
    settings = pip_settings.index_settings(pip_settings.read_pip_settings(environ))
    assert "--index-url https://u:p@d/simple" in settings.lines and "--find-links /w" in settings.lines
    assert [line for line in settings.lines if "extra" in line] == [
        "--extra-index-url https://b/s",
        "--extra-index-url https://c/s",
    ]
    assert ("SSL_CERT_FILE", "/ca") in settings.variables
    assert not any("u:p" in each for each in settings.arguments)


def test_a_null_device_means_no_files_of_pip() -> None:
    assert pip_settings.pip_files({"PIP_CONFIG_FILE": os.devnull}) == []


def test_a_build_gets_no_foreign_variables() -> None:
    given = {"UV_CACHE_DIR": "/c", "UV_PUBLISH_TOKEN": "secret", "UV_INDEX_MINE_URL": "x"}
    assert pip_settings.uv_variables(given) == {"UV_CACHE_DIR": "/c", "UV_INDEX_MINE_URL": "x"}


FAILURES = [
    (
        [
            "error: No solution found when resolving dependencies",
            "  cause: Because six==99 was not found and you require six==99, we can conclude …",
        ],
        "six",
    ),
    (
        [
            "  × No solution found when resolving dependencies:",
            "  ╰─▶ Because there is no version of attrs==99 and you require attrs==99",
        ],
        "attrs",
    ),
    (["  × Failed to build `psycopg2==2.9`", "  ├─▶ The build backend returned an error"], "psycopg2"),
    (["error: Failed to fetch: `https://pypi.org/simple/numpy/`"], "numpy"),
    (["error: Failed to download `foo @ https://x/foo-1.0-py3-none-any.whl`"], "foo"),
    (["error: failed to write", "  cause: No space left on device (os error 28)"], ""),
]


@pytest.mark.parametrize(("lines", "package"), FAILURES)
def test_a_failure_names_its_package_and_reason_on_one_line(lines: list[str], package: str) -> None:
    found, reason = failure(lines)
    assert found == package and reason and "\n" not in reason and "─" not in reason


def test_an_unreachable_index_is_told_from_other_failures() -> None:
    lines = [
        "error: Request failed",
        "  cause: Failed to fetch: https://x/simple/six/",
        "  cause: client error (Connect)",
    ]
    assert (
        is_network_failure(lines)
        and network_reason(lines) == "Failed to fetch: https://x/simple/six/; client error (Connect)"
    )
    assert not is_network_failure(FAILURES[0][0])


def test_the_log_says_the_origin_of_packages_without_passwords() -> None:
    output = UvOutput()
    lines = ["DEBUG Registry requirement already cached: six==1.17", " + six==1.17", " + attrs==2", "at https://u:p@x/"]
    assert [output.feed(line) for line in lines] == [
        None,
        "six 1.17: from the cache",
        "attrs 2: fetched",
        "at https://***@x/",
    ]


def test_unused_environments_above_the_limit_are_removed_oldest_first(tmp_path: Path) -> None:
    folders = EnvironmentFolders(tmp_path / "environments")
    folders.prepare()
    keys = [digit * 64 for digit in "abcd"]
    for age, key in enumerate(keys):
        part = folders.new_part()
        (part / "bin").mkdir(parents=True)
        (part / "bin" / "python").write_bytes(b"x" * 1000)
        folders.complete(part, key, {})
        record = folders.root / key / "environment.json"
        used_at = record.stat().st_mtime - (0 if key == keys[3] else 2 * KEPT_S - age)
        os.utime(record, (used_at, used_at))
    assert folders.collect({keys[0]}, 2500) == [keys[1], keys[2]]
    assert folders.collect({keys[0]}, 0) == []  # one is in use, one was used just now
    assert folders.find(keys[0]) == folders.python(keys[0]) and folders.key_of(str(folders.python(keys[0]))) == keys[0]
    assert folders.key_of("/usr/bin/python3") == ""


def test_leftovers_of_an_interrupted_build_are_removed(tmp_path: Path) -> None:
    folders = EnvironmentFolders(tmp_path)
    folders.prepare()
    (folders.new_part() / "bin").mkdir(parents=True)
    EnvironmentFolders(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []
