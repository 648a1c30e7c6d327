"""Label selectors as the API writes them in a query: `app=iris,tier in (a,b),!canary`. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TERM = re.compile(r"\s*(!?)\s*([^\s=!,()]+)\s*(?:(==|=|!=)\s*([^\s=!,()]*)|(in|notin)\s*\(([^)]*)\))?\s*(?:,|$)")


class SelectorError(ValueError):
    """Not a label selector."""


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement."""

    label: str
    values: frozenset[str] | None
    """Accepted values of the label; None: any."""
    negated: bool = False
    """The label must not be so, or not be there."""

    def fits(self, labels: Mapping[str, str]) -> bool:
        """True if the labels meet the requirement."""
        value = labels.get(self.label)
        found = value is not None and (self.values is None or value in self.values)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms must match; a selector without terms matches nothing, as it was hardly meant to match everything."""

    terms: tuple[Term, ...]

    def fits(self, labels: Mapping[str, str]) -> bool:
        """True if an object with these labels is selected."""
        return bool(self.terms) and all(term.fits(labels) for term in self.terms)

    @property
    def pair(self) -> tuple[str, str] | None:
        """A label and the value that it must have, to find this selector by; None if no term asks for just one."""
        for term in self.terms:
            if term.values is not None and len(term.values) == 1 and not term.negated:
                return term.label, next(iter(term.values))
        return None


def parsed(text: str) -> Selector:
    """Raises SelectorError."""
    terms, at = [], 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise SelectorError(f"{text!r}: not a label selector, from {text[at : at + 40]!r} on")
        absent, label, operator, value, membership, members = match.groups()
        values = None if operator is None else frozenset([value])
        if membership is not None:
            values = frozenset(member.strip() for member in members.split(","))
        if absent and values is not None:
            raise SelectorError(f"{text!r}: {label} must be absent, and have a value")
        terms.append(Term(label, values, bool(absent) or operator == "!=" or membership == "notin"))
        at = match.end()
    return Selector(tuple(terms))
