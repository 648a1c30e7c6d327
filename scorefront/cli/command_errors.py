"""Errors of commands, with text for people. Each class has its exit status."""


class CommandError(Exception):
    """Refused, not found or unreachable. The text names the remedy."""

    exit_status = 1


class InvalidInput(CommandError):
    """Invalid arguments, or an invalid file named by them."""

    exit_status = 2
