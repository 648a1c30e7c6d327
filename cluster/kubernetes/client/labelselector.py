"""The `spec.selector` of a workload, written in one line as the API takes it in a query. Pure."""

from collections.abc import Mapping
from typing import Any


def written(selector: Mapping[str, Any]) -> str:
    """`app=iris,tier in (gold,silver),!canary`; operators of a newer API select nothing."""
    terms = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        name, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        match expression["operator"]:
            case "In":
                terms.append(f"{name} in ({values})")
            case "NotIn":
                terms.append(f"{name} notin ({values})")
            case "Exists":
                terms.append(name)
            case "DoesNotExist":
                terms.append(f"!{name}")
            case _:
                return ""
    return ",".join(terms)
