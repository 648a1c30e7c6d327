"""Manifests read from files: YAML (one document or several) or JSON, with paths made absolute and every rule checked.

A document is an endpoint or a list of endpoints, as kubectl and `scorefront get` print them.

Every error names the file and, for a syntax error, the line.
"""

import json
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scorefront.cli.command_errors import InvalidInput
from serving import strict_json
from serving.document import as_declared, items_of
from serving.faults import Fault, InvalidManifest, shown
from serving.manifest import parse, resolve_paths

STDIN = "-"
MAX_FILE_BYTES = 16 * 1024 * 1024
"""A list of a thousand endpoints with six versions each has about ten million bytes."""
MAX_EXPANDED_NODES = 1_000_000
"""Keys and values of one document, each alias counted as often as it is used: a few hundred bytes of nested aliases
stand for billions. An endpoint of six versions has a few hundred."""


class UnreadableFile(InvalidInput):
    """A file that cannot be read or has the wrong format."""


@dataclass(frozen=True, slots=True)
class _Document:
    source: str
    content: Any


@dataclass(frozen=True, slots=True)
class Manifest:
    """One declared endpoint that has passed every check. `document` is as written, with absolute paths."""

    source: str
    """The name of the file it came from; with the number of the document and of the item, if there are several."""
    name: str
    """The endpoint's name."""
    document: dict[str, Any]


def read_manifests(names: Sequence[str]) -> list[Manifest]:
    """Every endpoint of every file, checked. `-` is standard input; its relative paths start at the current
    folder.

    Raises UnreadableFile, or InvalidManifest with the faults of all files.
    """
    manifests: dict[str, Manifest] = {}
    refused: list[InvalidManifest] = []
    for name in names:
        for document in _documents(name):
            try:
                manifest = _checked(document, _folder_of(name))
                earlier = manifests.setdefault(manifest.name, manifest)
                if earlier is not manifest:
                    rule = f"is declared twice (first in {earlier.source}); each endpoint needs its own name"
                    raise InvalidManifest((Fault("metadata.name", manifest.name, rule),), subject=manifest.source)
            except InvalidManifest as error:
                refused.append(error)
    if refused:
        raise InvalidManifest.of_several(refused)
    return list(manifests.values())


def _checked(document: _Document, base: Path) -> Manifest:
    resolved = as_declared(resolve_paths(document.content, base))
    declared = parse(resolved, subject=document.source)
    return Manifest(document.source, declared.metadata.name, resolved)


def _documents(name: str) -> Iterator[_Document]:
    """The endpoints in a file, lists taken apart. Raises UnreadableFile, InvalidManifest."""
    text = read_text(name)
    if name.endswith(".json"):
        contents = [parse_json(name, text)]
    else:
        contents = [content for content in parse_yaml(name, text) if content is not None]
    if not contents:
        raise UnreadableFile(f"{_title(name)}: is empty; it must hold a ScoringEndpoint")
    for number, content in enumerate(contents, 1):
        source = _title(name) if len(contents) == 1 else f"{_title(name)}, document {number}"
        try:
            items = items_of(content)
        except InvalidManifest as error:
            raise InvalidManifest(error.faults, subject=source) from None
        if items is None:
            yield _Document(source, content)
            continue
        for place, item in enumerate(items, 1):
            yield _Document(f"{source}, item {place}" if len(items) > 1 else source, item)


# ---- bytes


def _title(name: str) -> str:
    return "standard input" if name == STDIN else name


def _folder_of(name: str) -> Path:
    if name == STDIN or not Path(name).is_file():  # a pipe such as /dev/fd/63 has no folder of its own
        return Path.cwd()
    return Path(name).absolute().parent


def read_text(name: str) -> str:
    """The text of a file; `-` is standard input. Raises UnreadableFile."""
    data = read_bytes(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"{_title(name)}, line {line}: is not text in UTF-8") from None


def read_bytes(name: str) -> bytes:
    """The bytes of a file of at most MAX_FILE_BYTES; `-` is standard input. Raises UnreadableFile."""
    title = _title(name)
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        elif stat.S_ISDIR(Path(name).stat().st_mode):
            raise UnreadableFile(f"{name}: is a folder; name a YAML or JSON file in it")
        else:
            with open(name, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableFile(f"{title}: there is no such file") from None
    except OSError as error:
        raise UnreadableFile(f"{title}: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableFile(f"{title}: is larger than {MAX_FILE_BYTES} bytes, the most a manifest may have")
    return data


# ---- JSON


def parse_json(name: str, text: str) -> Any:
    """The value of the JSON text of a file. Raises UnreadableFile."""
    title = _title(name)
    if not text.strip():
        raise UnreadableFile(f"{title}: is empty; it must hold a JSON object")
    try:
        return strict_json.parse(text)
    except json.JSONDecodeError as error:
        raise UnreadableFile(f"{title}, line {error.lineno}: is not JSON: {error.msg}") from None
    except ValueError as error:
        raise UnreadableFile(f"{title}: {error}") from None


# ---- YAML


class _Loader(yaml.SafeLoader):
    """SafeLoader without timestamps (a date stays the text it is), with unique keys and bounded aliases."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML declares it as a plain class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_document(self, node: yaml.Node) -> Any:
        # before construction: merging (`<<`) rewrites mappings, after which a repeated key is no longer a mistake
        _check_node(node, {}, ())
        return super().construct_document(node)


def _check_node(node: yaml.Node, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Values under `node` with every alias written out; `sizes` remembers them by id, `above` holds the ids on the way
    down. Raises MarkedYAMLError on a key that repeats, on a cycle, and on more than the limit."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
    if id(node) not in sizes:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        size = 1 + sum(_check_node(child, sizes, (*above, id(node))) for child in children)
        if size > MAX_EXPANDED_NODES:
            problem = f"stands for more than {MAX_EXPANDED_NODES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        sizes[id(node)] = size
    return sizes[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            problem = f"the key {shown(key.value)} stands twice in one mapping"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def parse_yaml(name: str, text: str) -> list[Any]:
    """The documents of the YAML text of a file. Raises UnreadableFile."""
    title = _title(name)
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{title}, line {mark.line + 1}" if mark else title
        raise UnreadableFile(f"{where}: is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UnreadableFile(f"{title}: is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UnreadableFile(f"{title}: is nested too deeply") from None
    except ValueError as error:  # e.g. an integer of more digits than Python converts
        raise UnreadableFile(f"{title}: is not valid YAML: {error}") from None
