"""The access log of a rig, read back."""

import json
import os
from typing import Any

from router.accesslog import AccessLog, AccessLogMode
from tests.integration.router.rig import Rig


class LoggedRequests:
    """Every request of the rig from now on."""

    def __init__(self, rig: Rig) -> None:
        self._gateway = rig.gateway
        self._read, self._write = os.pipe()
        self._gateway.access_log = AccessLog(AccessLogMode.ALL, self._write)

    def read(self) -> list[dict[str, Any]]:
        """The records, once: the log ends with it."""
        self._gateway.access_log.flush()
        lines = os.read(self._read, 65_536).splitlines()
        self._gateway.access_log = AccessLog(AccessLogMode.OFF, -1)
        os.close(self._read)
        os.close(self._write)
        return [json.loads(line) for line in lines]
