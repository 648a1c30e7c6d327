"""Settings of the collector."""

from dataclasses import dataclass
from typing import Final

DEFAULT_PORT: Final = 50011
"""Port to which azureml-ai-monitoring posts."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Limits and times of the collector; each is set by an environment variable `SCOREFRONT_PAYLOADS_<NAME>`."""

    batch_bytes: int = 4_000_000
    """Size at which collected data is written to the store."""
    batch_s: float = 5.0
    """Longest time for which collected data waits to be written."""
    retry_s: float = 60.0
    """Time for which a batch is tried again while the store is away; then it is dropped."""
    compress: bool = False
    """Compress the files of records."""
    keep_days: int = 0
    """Age at which collected data is removed; 0: never."""
    keep_bytes: int = 0
    """Size of all collected data above which the oldest is removed; 0: no limit."""
    ring_bytes: int = 16_777_216
    """Shared memory between one router worker and the collector."""
    port: int = DEFAULT_PORT
    """Loopback port for data of scripts."""
