"""Commands on declared endpoints: apply, get, delete, keys, token, traffic."""

from typing import Annotated

import typer

from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    EndpointName,
    Files,
    KeyChoiceArgument,
    OneVersion,
    TableFormat,
    TextFormat,
    checked_name,
    control_plane,
    split,
)
from scorefront.cli.client import ControlRefused
from scorefront.cli.command_errors import InvalidInput
from scorefront.cli.manifest_files import STDIN, read_manifests, read_text
from serving.credentials import KEY_RULE, is_key


def apply(files: Files, control_url: ControlUrl = DEFAULT_URL, control_ca: ControlCa = None) -> None:
    """Declare endpoints, or change them.

    Every file is checked before anything is sent; an invalid change has no effect. Unchanged versions keep their
    replicas and lose no request; versions whose code or model files have changed restart. A file may hold one endpoint,
    several, or a list of them as `get -o yaml` and kubectl print it; what a server has added (status, uid and the like)
    is ignored.

    \b
    Example:
      scorefront apply -f examples/iris/endpoint.yaml
    """
    manifests = read_manifests(files)
    control = control_plane(control_url, control_ca)
    for manifest in manifests:
        try:
            outcome, notes = control.apply(manifest.name, manifest.document)
        except ControlRefused as refused:
            raise refused.of(manifest.source) from refused
        print(f"endpoint {manifest.name} {outcome}")
        for line in notes:
            show.note(f"endpoint {manifest.name}: {line}")


def get(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One endpoint; all of them without.", callback=checked_name)
    ] = None,
    output: Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")] = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Show endpoints: traffic, replicas, busy slots, problems.

    \b
    Examples:
      scorefront get
      scorefront get iris -o yaml
    """
    control = control_plane(control_url, control_ca)
    if name is None:
        listing = control.listing()
        if output is TableFormat.TABLE:
            show.print_endpoints(listing["value"], listing.get("skipped", ()))
        else:
            show.print_object(listing, output)
        return
    view = control.endpoint(name)
    if output is TableFormat.TABLE:
        show.print_endpoint(view)
    else:
        show.print_object(view, output)


def delete(name: EndpointName, control_url: ControlUrl = DEFAULT_URL, control_ca: ControlCa = None) -> None:
    """Delete an endpoint: its replicas drain and stop; keys and name are removed.

    \b
    Example:
      scorefront delete iris
    """
    control_plane(control_url, control_ca).delete(name)
    print(f"endpoint {name} deleted")


def keys(
    name: EndpointName,
    regenerate: Annotated[
        KeyChoiceArgument | None,
        typer.Option("--regenerate", help="Make this key anew; the old one dies within a second."),
    ] = None,
    set_primary: Annotated[
        str | None,
        typer.Option("--set-primary", metavar="-|FILE", help="Take the primary key from a file or standard input."),
    ] = None,
    set_secondary: Annotated[
        str | None,
        typer.Option("--set-secondary", metavar="-|FILE", help="Take the secondary key from there."),
    ] = None,
    output: Annotated[TextFormat, typer.Option("-o", "--output", help="How to print.")] = TextFormat.TEXT,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Show the two keys that open an endpoint, make one of them anew, or bring your own.

    Both are valid at any time. To change keys without an interruption: move clients to the secondary key, regenerate
    the primary one, move them back.

    \b
    Examples:
      scorefront keys iris
      scorefront keys iris --regenerate primary -o json
      scorefront keys iris --set-primary primary.key --set-secondary -
    """
    given = _given_keys(set_primary, set_secondary)
    if given and regenerate:
        raise InvalidInput("--regenerate: excludes --set-primary and --set-secondary")
    control = control_plane(control_url, control_ca)
    if regenerate:
        pair = control.replace_key(name, regenerate.value)
    for choice, key in given.items():
        pair = control.replace_key(name, choice.value, key)
    if not regenerate and not given:
        pair = control.keys(name)
    if output is TextFormat.JSON:
        print(show.as_json(pair))
    else:
        print(f"primary    {pair['primaryKey']}\nsecondary  {pair['secondaryKey']}")


def _given_keys(primary: str | None, secondary: str | None) -> dict[KeyChoiceArgument, str]:
    """The keys in files; `-` is standard input, for one of them."""
    if primary == secondary == STDIN:
        raise InvalidInput("--set-secondary: standard input is taken by --set-primary already")
    files = {KeyChoiceArgument.PRIMARY: primary, KeyChoiceArgument.SECONDARY: secondary}
    keys = {}
    for choice, file in files.items():
        if file is None:
            continue
        keys[choice] = read_text(file).strip()
        if not is_key(keys[choice]):
            raise InvalidInput(f"--set-{choice}: the key in {'standard input' if file == STDIN else file} {KEY_RULE}")
    if len(keys) == 2 and len(set(keys.values())) == 1:
        raise InvalidInput("--set-secondary: must differ from the primary key")
    return keys


def token(
    name: EndpointName,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="First make every token issued so far invalid, within a second.")
    ] = False,
    output: Annotated[TextFormat, typer.Option("-o", "--output", help="How to print.")] = TextFormat.TEXT,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Get a token for an endpoint with tokenAuthEnabled: a credential that expires.

    Text is the token alone, on one line; JSON adds refreshAfter and expiryOn in unix seconds.

    With --revoke the token printed is the only valid one. Open WebSockets of revoked tokens are closed. Keys are not
    affected, as tokens are not affected by `keys --regenerate`.

    \b
    Examples:
      scorefront token iris -o json
      scorefront token iris --revoke
      curl -H "Authorization: Bearer $(scorefront token iris)" ...
    """
    control = control_plane(control_url, control_ca)
    issued = control.revoke_tokens(name) if revoke else control.issue_token(name)
    print(show.as_json(issued) if output is TextFormat.JSON else issued["accessToken"])


def restart(
    name: EndpointName,
    version: OneVersion = None,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Replace the replicas of an endpoint one after the other; no request is lost, and edited files take effect.

    A new replica is ready before an old one stops, where there is room for both; else an old one makes room first.
    `apply` restarts by itself what runs from changed files.

    \b
    Examples:
      scorefront restart iris
      scorefront restart iris --version green
    """
    control_plane(control_url, control_ca).restart(name, version)
    print(f"endpoint {name}{f' version {version}' if version else ''} restarting")


def traffic(
    name: EndpointName,
    percentiles: Annotated[
        list[str] | None,
        typer.Argument(metavar="V=PERCENT", help="Versions and their percentages, 0 to 100.", show_default=False),
    ] = None,
    default: Annotated[
        str | None,
        typer.Option(
            "--default", metavar="V", help="The version that unclaimed traffic goes to.", callback=checked_name
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control", metavar="V", help="The version that the others are compared with.", callback=checked_name
        ),
    ] = None,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Split traffic between the versions of an endpoint; takes effect at once and drops no request.

    Versions that are not named keep their percentage. Unclaimed percentage goes to the default version. A version
    at 0 is reached only by pinning (`scorefront score --version V`).

    \b
    Examples:
      scorefront traffic iris blue=80 green=20
      scorefront traffic iris green=0 --default blue --control blue
    """
    wanted = split(percentiles or [])
    if not wanted and default is None and control is None:
        raise InvalidInput("traffic: name at least one V=PERCENT, --default or --control, as in: blue=80 green=20")
    show.print_endpoint(control_plane(control_url, control_ca).set_traffic(name, wanted, default, control))
