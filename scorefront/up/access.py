"""Access to the control port of `scorefront up`, by its listen address and the capabilities of the kernel."""

from dataclasses import dataclass
from pathlib import Path

from cluster.local import socket_owner as socketowner
from controlplane.rest_guard import is_loopback
from scorefront.process.process_main import CannotStart


@dataclass(frozen=True, slots=True)
class ControlAccess:
    """Requirements for a request to the control port."""

    this_machine_only: bool
    token_demanded: bool
    uids: frozenset[int] | None
    """Users allowed to connect; None: not checked."""


def control_access(control: tuple[str, int] | Path, token_wanted: bool) -> ControlAccess:
    """The rule for a control port.

    control: its address, or the path of a Unix socket. token_wanted: a token is demanded on this machine, too.
    Raises CannotStart if other users of this machine could not be kept out.
    """
    if isinstance(control, Path):
        return ControlAccess(True, token_wanted, socketowner.trusted_uids())
    if not is_loopback(control[0]):
        return ControlAccess(False, True, None)
    try:
        socketowner.check()
    except (socketowner.Unanswerable, OSError) as error:
        if token_wanted:
            return ControlAccess(True, True, None)
        raise CannotStart(
            f"--control: other users of this machine cannot be told from you: {error};"
            " use --control unix:PATH, or --control-token"
        ) from error
    return ControlAccess(True, token_wanted, socketowner.trusted_uids())
