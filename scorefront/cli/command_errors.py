"""Why a command could not be carried out, as the person who typed it is told. Each class knows its exit status."""


class CommandError(Exception):
    """Refused, not found, unreachable. The text is for people and names what to mend."""

    exit_status = 1


class InvalidInput(CommandError):
    """What was typed, or a file that it names, is not valid."""

    exit_status = 2
