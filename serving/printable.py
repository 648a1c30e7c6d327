"""Foreign text made safe for logs and terminals: it cannot move a cursor or forge a line."""

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # changes of the direction of writing
    "\u00ad\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible
    "\u2028\u2029\ufeff\ud800-\udfff]"  # other ends of lines, the byte order mark, halves of surrogate pairs
)
CONTINUED = "\n    | "
"""Separator between the lines of one record; no record of a log begins with it."""


def printable(text: str) -> str:
    """`text` with control and invisible characters as \\xNN, \\uNNNN or \\UNNNNNNNN; tabs and line feeds stay."""
    return _UNPRINTABLE.sub(_escaped, text)


def one_record(text: str) -> str:
    """`text` as one record: printable, its further lines indented."""
    return printable(text).replace("\n", CONTINUED)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
