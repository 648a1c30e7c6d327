"""Output of commands: views and decisions as tables, JSON or YAML. Text of users is never interpreted as markup."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from scorefront.cli.arguments import TableFormat
from serving.printable import one_record, printable

PIPE_WIDTH = 4096
"""Width of a table that goes to a pipe: never cut or wrapped."""


def console() -> Console:
    """Standard output as it is now."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def note(text: str) -> None:
    """A remark that is not the command's output."""
    print(text, file=sys.stderr)


def shown(text: str) -> str:
    """Text of others for standard output: as it is for a pipe or a file, without control characters on a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def as_json(value: object) -> str:
    """Indented, keys in their order."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_yaml(value: object) -> str:
    """Block style, keys in their order."""
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


def print_object(value: object, form: TableFormat) -> None:
    """JSON or YAML on standard output."""
    print(shown(as_json(value) if form is TableFormat.JSON else as_yaml(value).rstrip("\n")))


# ---- endpoints


def print_endpoints(views: Sequence[Mapping[str, Any]], skipped: Sequence[Mapping[str, Any]] = ()) -> None:
    """One row per version, with its problems below; then the skipped endpoints with the reason."""
    if not views and not skipped:
        note("there is no endpoint yet; `scorefront apply -f FILE` declares one")
        return
    out = console()
    if views:
        out.print(endpoint_table(views))
    for view in views:
        if degraded := _unexplained(view["status"]):
            out.print(Text(one_record(f"{view['metadata']['name']}: {degraded}")))
        for version, status in view["status"]["versions"].items():
            if status.get("message"):
                out.print(Text(one_record(f"{view['metadata']['name']}/{version}: {status['message']}")))
    for each in skipped:
        out.print(Text(one_record(f"{each['name']}: skipped: {each['message']}")))


def print_endpoint(view: Mapping[str, Any]) -> None:
    """Table of one endpoint, and its scoring URL."""
    print_endpoints([view])
    status = view["status"]
    print(f"scoring  {status['scoringUri']}  (auth: {status['auth']})")


def endpoint_table(views: Iterable[Mapping[str, Any]]) -> Table:
    """Endpoint, version, role, traffic, ready of desired replicas, busy of total slots, waiting requests, state."""
    table = _table("ENDPOINT", "VERSION", "ROLE", ">TRAFFIC", ">READY", ">BUSY", ">WAITING", "STATE")
    for view in views:
        name = str(view["metadata"]["name"])
        for version, status in view["status"]["versions"].items():
            table.add_row(
                Text(name),
                Text(str(version)),
                Text(_role(status)),
                percent(status["share"]),
                f"{status['ready']}/{status['desired']}",
                f"{status['busy']}/{status['total']}",
                str(status["waiting"]),
                _state(status, bool(_unexplained(view["status"]))),
            )
    return table


def percent(share: float) -> str:
    """A fraction as people read it: 0.8 -> 80 %, 0.125 -> 12.5 %."""
    return f"{round(share * 100, 2):g} %"


def _role(status: Mapping[str, Any]) -> str:
    return ", ".join([*(["default"] if status.get("isDefault") else []), *filter(None, [status.get("type")])])


def _unexplained(status: Mapping[str, Any]) -> str:
    """Why the endpoint does not run as declared, unless a problem of a version says so; "" if it does."""
    degraded = str(status.get("degraded") or "")
    found = [text for version in status["versions"].values() for text in (version.get("problems") or {}).values()]
    return "" if any(text and text in degraded for text in found) else degraded


def _state(status: Mapping[str, Any], degraded: bool) -> Text:
    """The words of its problems, then the numbers of replicas that are not ready; `ok` if all that are wanted are.

    `degraded`: True if its endpoint does not run as declared, for another reason than a problem of a version.
    """
    problems = list(status.get("problems") or (("degraded",) if degraded else ()))
    parts = [*problems, *(f"{status[word]} {word}" for word in ("starting", "draining", "failed") if status.get(word))]
    if not parts and status["ready"] < status["desired"]:
        parts = ["starting"]
    style = "red" if status.get("failed") or problems else "yellow" if parts else "green"
    return Text(", ".join(parts) or "ok", style=style)


# ---- operations


def operation_table(operations: Iterable[Mapping[str, Any]]) -> Table:
    """Id, kind, endpoint, version, state with the current step, creation (UTC), duration, reason."""
    table = _table("ID", "KIND", "ENDPOINT", "VERSION", "STATE", "CREATED (UTC)", ">SECONDS", "REASON")
    for each in operations:
        error, running = each["error"], each["ended"] is None
        state = f"{each['state']} ({each['step']})" if running and each["step"] else each["state"]
        seconds = "" if running else f"{each['ended'] - each['created']:.1f}"
        reason = "" if error is None else printable(error["message"].partition("\n")[0])
        fields = (each["id"], each["kind"], each["endpoint"], each["version"], state)
        table.add_row(*map(Text, fields), moment(each["created"]), seconds, Text(reason))
    return table


def step_table(steps: Iterable[Mapping[str, Any]]) -> Table:
    """Step, begin (UTC), duration, result."""
    table = _table("STEP", "BEGAN (UTC)", ">SECONDS", "RESULT")
    for each in steps:
        seconds = "" if each["ended"] is None else f"{each['ended'] - each['began']:.1f}"
        table.add_row(Text(each["step"]), moment(each["began"]), seconds, Text(printable(each["note"])))
    return table


# ---- models


def model_table(models: Iterable[Mapping[str, Any]]) -> Table:
    """Name, version, creation (UTC), size, number of files, framework, tags."""
    table = _table("MODEL", ">VERSION", "CREATED (UTC)", ">SIZE", ">FILES", "FRAMEWORK", "TAGS")
    for each in models:
        tags = ", ".join(f"{key}={value}" for key, value in each["tags"].items())
        framework = " ".join(filter(None, (each["framework"], each["frameworkVersion"])))
        table.add_row(
            Text(each["name"]),
            str(each["version"]),
            moment(each["created"])[:-4],
            size(each["sizeBytes"]),
            str(each["fileCount"]),
            Text(printable(framework)),
            Text(printable(tags)),
        )
    return table


def file_table(files: Iterable[Mapping[str, Any]]) -> Table:
    """Size, SHA-256, path."""
    table = _table(">SIZE", "SHA-256", "FILE")
    for each in files:
        table.add_row(size(each["sizeBytes"]), each["sha256"], Text(printable(each["path"])))
    return table


def size(size_bytes: float) -> str:
    """Bytes as people read them: 1536 -> 1.5 kB."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 999.95:
            return f"{round(size_bytes, 1):g} {unit}"
        size_bytes /= 1000
    return f"{round(size_bytes, 1):g} GB"


# ---- scaling decisions


def decision_table(decisions: Iterable[Mapping[str, Any]]) -> Table:
    """Time (UTC), version, previous -> desired, rule, reason, and the outcome unless it was accepted."""
    table = _table("TIME (UTC)", "VERSION", ">REPLICAS", "RULE", "REASON")
    for decision in decisions:
        replicas = f"{decision['previous']} → {decision['desired']}"
        said = " ".join(filter(None, (decision["reason"], decision.get("outcome"))))
        version, rule, reason = (Text(printable(str(each))) for each in (decision["version"], decision["rule"], said))
        table.add_row(moment(decision["at"]), version, replicas, rule, reason)
    return table


def what_if_table(found: Mapping[str, Any]) -> Table:
    """The spans in which the changed policy would have had another number, and the replica-seconds of both."""
    table = _table("FROM (UTC)", "TO", ">RECORDED", ">WHAT-IF", "REASON")
    for one in found["differences"]:
        table.add_row(
            moment(one["from"]), moment(one["to"])[11:], str(one["recorded"]), str(one["whatIf"]), Text(one["reason"])
        )
    recorded, other = found["recordedReplicaSeconds"], found["whatIfReplicaSeconds"]
    table.title = f"{found['version']} with {found['policy']}"
    table.title_justify = table.caption_justify = "left"
    differences = len(found["differences"]) or "no"
    table.caption = f"{differences} differences; replica-seconds {recorded:.0f} recorded, {other:.0f} with the change"
    return table


def front_end_table(decisions: Iterable[Mapping[str, Any]]) -> Table:
    """Time (UTC), previous -> desired workers of each router, and routers, rule, reason."""
    table = _table("TIME (UTC)", ">WORKERS", ">ROUTERS", "RULE", "REASON")
    for decision in decisions:
        previous, desired = decision["previous"], decision["desired"]
        workers, routers = (f"{previous[part]} → {desired[part]}" for part in ("workers", "routers"))
        table.add_row(
            moment(decision["at"]), workers, routers, *(Text(printable(decision[key])) for key in ("rule", "reason"))
        )
    return table


def moment(at: float) -> str:
    """Unix seconds as a date and time in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _table(*columns: str) -> Table:
    """A head and rows, without frames; `>` before a name aligns right. Only the last column may be wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        last = column == columns[-1]
        side: JustifyMethod = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=side, no_wrap=not last, overflow="fold")
    return table
