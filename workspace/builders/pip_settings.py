"""Settings of pip, which uv does not read: its files and its variables, as lines and options for uv."""

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SECTIONS = ("global", "install")
"""Of pip's files; later ones win."""
PASSED_ON = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE")
PASSED_ON_FAMILIES = (
    *("UV_INDEX_", "UV_HTTP_", "UV_CONCURRENT_", "UV_CACHE_DIR", "UV_INSECURE_HOST", "UV_NATIVE_TLS"),
    *("UV_SYSTEM_CERTS", "UV_CONSTRAINT", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_PYTHON_INSTALL_DIR"),
)
"""Beginnings of variables of uv that its process gets."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Where packages come from, and how they are fetched."""

    lines: tuple[str, ...] = ()
    """For the top of the requirements file: not visible in the table of processes, unlike arguments."""
    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def pip_files(environ: Mapping[str, str]) -> list[Path]:
    """The files of pip's settings, as pip looks for them; later ones win."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    files = [*(Path(folder, "pip", "pip.conf") for folder in reversed(shared)), Path("/etc/pip.conf")]
    files += [home / ".pip" / "pip.conf", user / "pip" / "pip.conf", Path(sys.prefix, "pip.conf")]
    return [*files, Path(named)] if named else files


def read_pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Option of pip -> value: of its files, and above them of PIP_ variables. Unreadable files are left out."""
    found: dict[str, str] = {}
    for file in pip_files(environ):
        try:
            found |= parsed_settings(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


def parsed_settings(text: str) -> dict[str, str]:
    """The options in a file of pip. Raises configparser.Error."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    found: dict[str, str] = {}
    for section in SECTIONS:
        if parser.has_section(section):
            found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return found


def index_settings(pip: Mapping[str, str]) -> IndexSettings:
    """The settings for uv. `pip`: option of pip -> value."""
    return IndexSettings(tuple(_lines(pip)), tuple(_arguments(pip)), tuple(_variables(pip)))


def uv_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of uv that its process gets."""
    return {name: value for name, value in environ.items() if name in PASSED_ON or name.startswith(PASSED_ON_FAMILIES)}


def _lines(pip: Mapping[str, str]) -> Iterator[str]:
    if _is_on(pip.get("no-index", "")):
        yield "--no-index"
    elif url := pip.get("index-url", "").strip():
        yield f"--index-url {url}"
    for option in ("extra-index-url", "find-links", "no-binary", "only-binary"):
        yield from (f"--{option} {value}" for value in pip.get(option, "").split())


def _arguments(pip: Mapping[str, str]) -> Iterator[str]:
    for host in pip.get("trusted-host", "").split():
        yield from ("--allow-insecure-host", host)
    for file in pip.get("constraint", "").split():
        yield from ("--constraints", file)
    if _is_on(pip.get("pre", "")):
        yield from ("--prerelease", "allow")
    if pip.get("extra-index-url", "").strip():  # pip takes the best version of all indexes
        yield from ("--index-strategy", "unsafe-best-match")


def _variables(pip: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = {"cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT", "retries": "UV_HTTP_RETRIES"}
    yield from ((name, pip[option]) for option, name in names.items() if pip.get(option))
    if timeout := pip.get("timeout") or pip.get("default-timeout"):
        yield "UV_HTTP_TIMEOUT", timeout.partition(".")[0]
    if proxy := pip.get("proxy"):
        yield from (("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy))


def _is_on(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on", "y", "t")
