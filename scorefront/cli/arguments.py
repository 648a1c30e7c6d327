"""Checks of command line arguments. Every refusal names the argument, its value and the rule."""

import datetime
import json
import math
import os
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli.client import ControlClient, checked_control_url, unix_path
from scorefront.cli.command_errors import InvalidInput
from scorefront.cli.manifest_files import STDIN
from scorefront.command_hints import DEFAULT_CONTROL_URL
from scorefront.cores import MAX_WORKERS
from scorefront.http_client import UNIX
from workspace.store.store_url import store_url_fault

MAX_SCORE_BYTES = 100_000_000
"""The most a router takes by default."""
_PERIOD = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NAME = re.compile(r"[a-z][-a-z0-9]{1,30}[a-z0-9]")
_NAME_RULE = "a name has 3 to 32 characters: lower-case letters, digits and dashes; a letter first, no dash last"


class TableFormat(StrEnum):
    """Output format of lists and objects."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class TextFormat(StrEnum):
    """Output format of credentials."""

    TEXT = "text"
    JSON = "json"


class KeyChoiceArgument(StrEnum):
    """One of the two keys of an endpoint."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class AccessLogChoice(StrEnum):
    """Selection of scoring requests for the access log."""

    OFF = "off"
    ERRORS = "errors"
    SAMPLED = "sampled"
    ALL = "all"


def period_s(text: str) -> int:
    """The seconds of a `--since` such as 90s, 30m, 1h or 7d. Raises InvalidInput."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise InvalidInput(f"--since: must be a number and s, m, h or d, as in 90s, 30m, 1h or 7d; got {text!r}")
    return int(match[1]) * _SECONDS[match[2]]


def control_plane(url: str, ca: Path | None) -> ControlClient:
    """A client for `--control-url` and `--control-ca`, with the token of the environment."""
    token = os.environ.get("SCOREFRONT_TOKEN", "").strip()
    if not token.isascii() or not token.isprintable():
        raise InvalidInput("SCOREFRONT_TOKEN must be printable ASCII on one line")
    if ca is not None and not ca.is_file():
        raise InvalidInput(f"--control-ca (or SCOREFRONT_CA): there is no file {ca}")
    return ControlClient(checked_control_url(url), token or None, ca)


def checked_name(name: str | None) -> str | None:
    """The name of an endpoint or a version, if one is given. Raises typer.BadParameter."""
    if name is not None and not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{_NAME_RULE}; got {name!r}")
    return name


def address(argument: str, text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPv6]:PORT`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidInput(f"{argument}: an IPv6 address stands in brackets, as in [::1]:8080; got {text!r}")
    if not colon or not host or not host.isascii() or not host.isprintable() or " " in host or "/" in host:
        raise InvalidInput(f"{argument}: must be HOST:PORT, as in 127.0.0.1:8080; got {text!r}")
    return host, port_number(argument, port)


def port_number(argument: str, text: str) -> int:
    """A TCP port, or 0. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise InvalidInput(f"{argument}: the port must be 0 to 65535 (0 lets the system choose); got {text!r}")
    return int(text)


def control_address(argument: str, text: str) -> tuple[str, int] | Path:
    """`HOST:PORT`, or `unix:PATH` in an existing folder."""
    if not text.startswith(UNIX):
        return address(argument, text)
    path = unix_path(argument, text)
    if not path.parent.is_dir():
        raise InvalidInput(f"{argument}: there is no folder {path.parent}; got {text!r}")
    return path


def workers(text: str) -> int | None:
    """The number of router workers; None for `auto`: as many as the load needs."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_WORKERS):
        raise InvalidInput(f"--workers: must be auto or 1 to {MAX_WORKERS}; got {text!r}")
    return int(text)


def tls_pairs(
    certificates: Sequence[Path], keys: Sequence[Path], option: str = "--tls"
) -> tuple[tuple[Path, Path], ...]:
    """Certificate and key files, first with first and so on; each pair must be good now.

    option: prefix of the options that end with -cert and -key; default --tls. Raises InvalidInput.
    """
    if len(certificates) != len(keys):
        counts = f"got {len(certificates)} and {len(keys)}"
        raise InvalidInput(f"{option}-cert and {option}-key come in pairs, a key for each certificate; {counts}")
    from router.proxy.tls import CertificatePair, Certificates, TlsError  # late: cryptography takes a while to load

    pairs = tuple((cert.absolute(), key.absolute()) for cert, key in zip(certificates, keys, strict=True))
    for cert, key in pairs:
        for which, file in ((f"{option}-cert", cert), (f"{option}-key", key)):
            if not file.is_file():
                raise InvalidInput(f"{which}: there is no file {file}")
        try:
            Certificates([CertificatePair(cert, key)], datetime.datetime.now(datetime.UTC))
        except TlsError as error:
            raise InvalidInput(f"{option}-cert {cert} with {option}-key {key}: cannot be used: {error}") from error
    return pairs


def state_dir(path: Path) -> Path:
    """State directory of `up`: an existing folder, or a path that can become one."""
    absolute = path.absolute()
    above = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
    if not above.is_dir():
        raise InvalidInput(f"--state-dir: {above} is not a folder; got {str(path)!r}")
    return absolute


def store_url(text: str) -> str:
    """The store of `up`: a URL, or the absolute path of a folder. Raises InvalidInput."""
    if fault := store_url_fault(text):
        raise InvalidInput(f"--store: {fault}; got {text!r}")
    return text if "://" in text else str(Path(text).absolute())


def split(pairs: Sequence[str]) -> dict[str, float]:
    """`VERSION=PERCENT` words -> percent by version."""
    percentiles: dict[str, float] = {}
    for pair in pairs:
        version, equals, percent = pair.partition("=")
        if not equals:
            raise InvalidInput(f"V=PERCENT: must look like blue=20; got {pair!r}")
        if not _NAME.fullmatch(version):
            raise InvalidInput(f"V=PERCENT {pair}: {_NAME_RULE}; got {version!r}")
        if version in percentiles:
            raise InvalidInput(f"V=PERCENT: {version} stands there twice")
        percentiles[version] = _percent(pair, percent)
    total = round(math.fsum(percentiles.values()), 9)  # 33.3 + 33.3 + 33.4 is 100
    if total > 100:
        raise InvalidInput(f"V=PERCENT: the sum must be at most 100; got {total:.15g}")
    return percentiles


def _percent(pair: str, text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise InvalidInput(f"V=PERCENT {pair}: must be a number from 0 to 100; got {text!r}")
    return value


def scoring_data(argument: str | None, stdin: Any) -> bytes | None:
    """The JSON to score: `-d JSON`, `-d @FILE` or `-d @-` (`stdin`, a binary file)."""
    if argument is None:
        return None
    if not argument.startswith("@"):
        data, source = argument.encode(), "-d"
    else:
        source = argument[1:]
        data = stdin.read(MAX_SCORE_BYTES + 1) if source == STDIN else _file_bytes(source)
        source = f"-d @{source}"
    if len(data) > MAX_SCORE_BYTES:
        raise InvalidInput(f"{source}: is larger than {MAX_SCORE_BYTES} bytes")
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput(f"{source}: is not JSON: {error.msg} ({where})") from None
    except (ValueError, RecursionError):
        raise InvalidInput(f"{source}: is not JSON: not UTF-8 text, or nested too deeply") from None
    return data


def _file_bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(MAX_SCORE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"-d @{name}: {error.strerror}") from None
    except ValueError:
        raise InvalidInput(f"-d @{name!r}: is not the name of a file") from None


# ---- what several commands share

ControlUrl = Annotated[
    str,
    typer.Option(
        "--control-url",
        envvar="SCOREFRONT_URL",
        metavar="URL",
        help="Where `scorefront up` listens for control (its --control): http(s)://HOST:PORT or unix:PATH. The token, "
        "where one is demanded, is taken from the environment variable SCOREFRONT_TOKEN.",
    ),
]
DEFAULT_URL = DEFAULT_CONTROL_URL
ControlCa = Annotated[
    Path | None,
    typer.Option(
        "--control-ca",
        envvar="SCOREFRONT_CA",
        metavar="FILE",
        help="The authority (PEM) of an https control URL, where the system does not know it.",
        show_default=False,
    ),
]
EndpointName = Annotated[
    str, typer.Argument(metavar="NAME", help="The endpoint's name.", show_default=False, callback=checked_name)
]
OneVersion = Annotated[
    str | None, typer.Option("--version", metavar="V", help="Only this version.", callback=checked_name)
]
Files = Annotated[
    list[str],
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="A manifest in YAML or JSON (- is standard input). May be given several times.",
        show_default=False,
    ),
]
