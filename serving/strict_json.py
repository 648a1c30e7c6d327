"""JSON without the extensions and ambiguities that `json.loads` accepts."""

import json
from typing import Any, NoReturn

from serving.faults import shown


def parse(text: str) -> Any:
    """The value of `text`. Raises ValueError: syntax (JSONDecodeError), a repeated name, NaN, too deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shown(name)} stands twice in one object")
        found[name] = value
    return found


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
