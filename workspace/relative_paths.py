"""Rules for the relative path of a file in a model, a snapshot or an archive. Pure."""

from collections.abc import Iterable

MAX_PATH_CHARACTERS = 1024
MAX_PART_BYTES = 255
"""Longest name of a file or folder on common file systems."""
RULE = "must be a relative path with / between its parts, none of them empty, . or .."


def path_fault(path: str) -> str | None:
    """The rule that a path breaks; None: it stays in its folder."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\\" in path:
        return RULE
    if not path.isprintable():
        return "must have no control characters"
    if len(path) > MAX_PATH_CHARACTERS:
        return f"must have at most {MAX_PATH_CHARACTERS} characters"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "must be valid Unicode"
    return f"must have parts of at most {MAX_PART_BYTES} bytes" if longest > MAX_PART_BYTES else None


def clash(paths: Iterable[str]) -> str | None:
    """A path that occurs twice, or is a folder of another one; None if all can exist together."""
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        above = path
        while above := above.rpartition("/")[0]:
            folders.add(above)
        if path in files:
            return path
        files.add(path)
    return min(files & folders, default=None)
