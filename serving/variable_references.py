"""References to variables in the values of `env`: `${NAME}`, and `$${` for a plain `${`. Pure."""

import re
from collections.abc import Iterator, Mapping

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


def referenced(value: str) -> Iterator[str]:
    """The names of the references in `value`, in order."""
    return (found["name"] for found in _REFERENCE.finditer(value) if found["name"] is not None)


def expanded(value: str, environ: Mapping[str, str]) -> str:
    """`value` with every `${NAME}` replaced by that variable; `$${` is a plain `${`. Unknown names stay as they are."""
    return _REFERENCE.sub(lambda found: _replacement(found, environ), value)


def _replacement(found: re.Match[str], environ: Mapping[str, str]) -> str:
    name = found["name"]
    return "$" if name is None else environ.get(name, found[0])
