"""The rights in the Kubernetes API used by the code of a process, read off its calls.

Every call of the API's client (`api.get(where, …)`) and every `Reflector(api, where, …)` in the modules of a process
is followed back to the origin of its argument, `path(RESOURCE, namespace, name, sub)`: through variables, attributes,
parameters and helpers of the same module. A call that cannot be followed is an error, so that none is overlooked.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cluster.kubernetes.client import paths

ROOT = Path(__file__).parents[3]
PACKAGES = ("serving", "autoscaler", "cluster", "router", "controlplane", "scorefront")
PASSES_ON = (
    "cluster.kubernetes.client.api",
    "cluster.kubernetes.client.reflector",
    "scorefront.doctor",
    "scorefront.cli",
)
"""They take paths from others, and their calls are counted. The doctor's requests are seen at run time."""
ANY = "*"
"""A name that is known only at run time."""

READS = {"get", "text", "lines"}
VERBS = {
    "create": ("create",),
    "replace": ("update",),
    "merge": ("patch",),
    "apply": ("patch", "create"),
    "delete": ("delete",),
}
"""Method of the client -> verb of the API server. An apply may create."""


class Right(NamedTuple):
    """One thing that a process does."""

    home: bool
    """In the process's own namespace; else in every namespace with endpoints."""
    group: str
    resource: str
    """With its subresource, as in pods/log."""
    verb: str
    name: str
    """Name of the object, ANY, or "" if a rule cannot name it (create)."""


class Unclear(Exception):
    """A call with a path that cannot be followed."""


class Where(NamedTuple):
    """One `path(…)` that a call may mean."""

    home: bool
    resource: paths.Resource
    name: str
    sub: str


def used_by(entry: str) -> dict[Right, str]:
    """Right -> one place that uses it, in all modules that importing `entry` loads, wherever the import stands."""
    found: dict[Right, str] = {}
    modules = sorted(loaded(entry))
    for name in modules:
        if not name.startswith(PASSES_ON):
            for place, right in Reader(name, modules).rights():
                found.setdefault(right, place)
    return found


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_text())


def file_of(module: str) -> Path:
    base = ROOT / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def loaded(entry: str) -> set[str]:
    """First-party modules that `entry` imports, itself included."""
    seen: set[str] = set()
    todo = [entry]
    while todo:
        module = todo.pop()
        if module in seen or module.split(".")[0] not in PACKAGES or not file_of(module).exists():
            continue
        seen.add(module)
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return seen


@dataclass
class Scope:
    """A function, or the module."""

    node: ast.AST
    parent: "Scope | None"
    owner: ast.ClassDef | None

    def parameters(self) -> list[ast.arg]:
        if not isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return []
        return [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]

    def default(self, name: str) -> ast.expr | None:
        if not isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        args = self.node.args
        plain = [*args.posonlyargs, *args.args]
        pairs = [*zip(plain[len(plain) - len(args.defaults) :], args.defaults, strict=True)]
        pairs += [
            (arg, given) for arg, given in zip(args.kwonlyargs, args.kw_defaults, strict=True) if given is not None
        ]
        return next((given for arg, given in pairs if arg.arg == name), None)


@dataclass
class Reader:
    """The calls of one module."""

    name: str
    modules: Sequence[str]
    """All modules of the process: the objects of this one may be made in any of them."""
    module: ast.Module = field(init=False)
    scopes: dict[ast.AST, Scope] = field(default_factory=dict)
    """Node -> the scope that it stands in."""

    def __post_init__(self) -> None:
        self.module = parsed(self.name)
        self._enter(self.module, Scope(self.module, None, None), None)

    def _enter(self, node: ast.AST, scope: Scope, owner: ast.ClassDef | None) -> None:
        for child in ast.iter_child_nodes(node):
            self.scopes[child] = scope
            if isinstance(child, ast.ClassDef):
                self._enter(child, scope, child)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                self._enter(child, Scope(child, scope, owner), owner)
            else:
                self._enter(child, scope, owner)

    # ---- calls

    def rights(self) -> Iterator[tuple[str, Right]]:
        for node in ast.walk(self.module):
            if not isinstance(node, ast.Call):
                continue
            place = f"{self.name}:{node.lineno}"
            if (
                isinstance(node.func, ast.Attribute)
                and _is_client(node.func.value)
                and node.func.attr in READS | VERBS.keys()
            ):
                for where in self._paths(node.args[0], place):
                    yield from ((place, right) for right in _of_call(where, node.func.attr))
            elif isinstance(node.func, ast.Name) and node.func.id == "Reflector":
                names = self._selected(node, place)
                for where in self._paths(node.args[1], place):
                    yield from ((place, right) for verb in ("list", "watch") for right in _named(where, verb, names))

    def _selected(self, call: ast.Call, place: str) -> set[str]:
        """The names that a reflector is restricted to."""
        for keyword in call.keywords:
            if keyword.arg == "field_selector" and isinstance(keyword.value, ast.JoinedStr):
                texts = [part for part in keyword.value.values if isinstance(part, ast.FormattedValue)]
                return self._texts(texts[0].value, place)
        return {ANY}

    # ---- origin of a path

    def _paths(self, expression: ast.expr, place: str, bound: Mapping[str, ast.expr] | None = None) -> set[Where]:
        bound = bound or {}
        if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "path":
            return self._made(expression, place, bound)
        if isinstance(expression, ast.Call) and (function := self._local(expression)) is not None:
            given = self._bind(function, expression)
            returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
            return set().union(*(self._paths(value, place, given) for value in returned))
        sources = self._sources(expression, bound)
        if not sources:
            raise Unclear(f"{place}: {ast.unparse(expression)}: no path(…) found")
        return set().union(*(self._paths(source, place, bound) for source in sources))

    def _made(self, call: ast.Call, place: str, bound: Mapping[str, ast.expr]) -> set[Where]:
        resource_name = call.args[0]
        if not isinstance(resource_name, ast.Name) or not hasattr(paths, resource_name.id):
            raise Unclear(
                f"{place}: {ast.unparse(call)}: the resource must be a constant of cluster.kubernetes.client.paths"
            )
        resource: paths.Resource = getattr(paths, resource_name.id)
        home = "home" in ast.unparse(call.args[1])
        names = self._texts(call.args[2], place, bound) if len(call.args) > 2 else {""}
        subs = self._texts(call.args[3], place, bound) if len(call.args) > 3 else {""}
        if ANY in subs:
            raise Unclear(f"{place}: {ast.unparse(call)}: the subresource is not known")
        return {Where(home, resource, name, sub) for name in names for sub in subs}

    def _texts(self, expression: ast.expr, place: str, bound: Mapping[str, ast.expr] | None = None) -> set[str]:
        """Possible values of a name or subresource."""
        bound = bound or {}
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return {expression.value}
        sources = self._sources(expression, bound)
        if sources:
            return set().union(*(self._texts(source, place) for source in sources))
        if isinstance(expression, ast.Name) and (imported := self._imported(expression.id)) is not None:
            return {imported}
        return self._made_with(expression, place) or {ANY}

    def _made_with(self, expression: ast.expr, place: str) -> set[str]:
        """Arguments passed for a parameter of a class's `__init__`."""
        scope = self.scopes.get(expression)
        if scope is None or scope.owner is None or not isinstance(expression, ast.Name):
            return set()
        function = scope.node
        if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
            return set()
        found: set[str] = set()
        for name in self.modules:
            for node in ast.walk(parsed(name)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == scope.owner.name:
                    given = self._bind(function, node)
                    if expression.id in given:
                        found |= Reader(name, self.modules)._texts(given[expression.id], place)
        return found

    def _sources(self, expression: ast.expr, bound: Mapping[str, ast.expr]) -> list[ast.expr]:
        """Values assigned to a variable or attribute, or passed for a parameter."""
        if (
            isinstance(expression, ast.Attribute)
            and isinstance(expression.value, ast.Name)
            and expression.value.id == "self"
        ):
            return self._assigned(lambda target: isinstance(target, ast.Attribute) and target.attr == expression.attr)
        if not isinstance(expression, ast.Name):
            return []
        if expression.id in bound:
            return [bound[expression.id]]
        scope: Scope | None = self.scopes.get(expression)
        while scope is not None:
            if any(parameter.arg == expression.id for parameter in scope.parameters()):
                return self._passed(scope, expression.id)
            here = self._assigned(lambda target: isinstance(target, ast.Name) and target.id == expression.id, scope)
            if here:
                return here
            scope = scope.parent
        return []

    def _assigned(self, fits: Callable[[ast.expr], bool], scope: Scope | None = None) -> list[ast.expr]:
        return [
            value
            for node in ast.walk(self.module)
            if isinstance(node, ast.Assign | ast.AnnAssign) and (scope is None or self.scopes[node] is scope)
            for target, value in _pairs(node)
            if fits(target)
        ]

    def _passed(self, scope: Scope, parameter: str) -> list[ast.expr]:
        """Arguments in this module for a parameter of one of its functions."""
        function = scope.node
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        found = []
        for node in ast.walk(self.module):
            if isinstance(node, ast.Call) and self._local(node) is function:
                given = self._bind(function, node)
                if parameter in given:
                    found.append(given[parameter])
        return found

    def _local(self, call: ast.Call) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The function of this module that is called, if it is one."""
        func = call.func
        name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
        of_self = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"
        if not isinstance(func, ast.Name) and not of_self:
            return None
        for node in ast.walk(self.module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return node
        return None

    def _bind(self, function: ast.AST, call: ast.Call) -> dict[str, ast.expr]:
        scope = Scope(function, None, None)
        names = [parameter.arg for parameter in scope.parameters() if parameter.arg != "self"]
        given = dict(zip(names, call.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        for name in names:
            if name not in given and (default := scope.default(name)) is not None:
                given[name] = default
        return given

    def _imported(self, name: str) -> str | None:
        """A text constant of another first-party module."""
        for node in ast.walk(self.module):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _constant(node.module, alias.name)
        return None


def _pairs(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Target and value of an assignment; `a, b = x, y` is two."""
    if node.value is None:
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def _constant(module: str, name: str) -> str | None:
    for node in parsed(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = node.value if isinstance(node, ast.Assign) else None
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _is_client(expression: ast.expr) -> bool:
    """`api`, `self._api`, `self.api`."""
    name = expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
    return name.lstrip("_") == "api"


def _of_call(where: Where, method: str) -> Iterable[Right]:
    if method in READS:
        verb = "get" if where.name else "watch" if method == "lines" else "list"
        return _named(where, verb, {where.name or ANY})
    return [right for verb in VERBS[method] for right in _named(where, verb, {where.name})]


def _named(where: Where, verb: str, names: set[str]) -> list[Right]:
    resource = where.resource.plural + (f"/{where.sub}" if where.sub else "")
    shown = {""} if verb == "create" and not where.sub else names
    return [Right(where.home, where.resource.group, resource, verb, name) for name in sorted(shown)]
