"""Warnings for misspelt environment variables of scorefront, which would be ignored without a word. Pure."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields

from autoscaler.frontend_settings import FrontEndSettings
from router.settings import RouterSettings
from scorefront.ports.connection_table import PortLimits
from telemetry.collector_settings import CollectorSettings

OURS = "SCOREFRONT_"
OTHERS = frozenset(
    f"{OURS}{name}"
    for name in (
        *("URL", "TOKEN", "CA", "DEBUG", "SHOW_KEYS", "STATIC_CIDRS", "TOKEN_ISSUER_HOSTS", "GPUS"),
        *("NAMESPACE", "NAMESPACES", "POD_TEMPLATE", "COMPILE", "STORE", "CLUSTER_PURPOSE", "FRONTEND_MAX_CORES"),
        *("ENDPOINT", "VERSION", "REPLICA", "RUN"),  # set for replicas; their code may call scorefront
        *("ENVIRONMENT", "BUILD_TIMEOUT_S", "ENVIRONMENTS_GB"),
        *("KEY", "SCORING_TOKEN", "PAYLOAD", "SHAPE", "BENCH_ENVOY"),  # of the load tests
        *("RATE", "SECONDS", "SEED", "ARRIVALS"),
        *("MAX_FAILURE_PERCENT", "MAX_P95_MS", "MAX_P99_MS", "MAX_LATENESS_MS"),
    )
)
"""Variables that are no fields of settings."""
_SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Set by Kubernetes in each container, for Services such as scorefront-router."""


def known_settings() -> frozenset[str]:
    """Every environment variable that a process of scorefront reads."""
    prefixed = (
        (RouterSettings, ""),
        (FrontEndSettings, "FRONTEND_"),
        (PortLimits, "CONTROL_"),
        (CollectorSettings, "PAYLOADS_"),
    )
    named = {f"{OURS}{prefix}{field.name.upper()}" for shape, prefix in prefixed for field in fields(shape)}
    return OTHERS | named


def misspelt(names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """A warning for each name that begins with SCOREFRONT_ and is not known, and for near misses of that beginning."""
    for name in sorted(names):
        if name in known or _SERVICE_LINK.fullmatch(name):
            continue
        ours = name.upper().startswith(OURS)
        if not ours and not name.upper().startswith("SCORE"):
            continue
        if ours:  # the common beginning makes every name look alike
            ends = [each.removeprefix(OURS) for each in known]
            near = [OURS + end for end in difflib.get_close_matches(name.upper().removeprefix(OURS), ends, n=1)]
        else:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.9)
        if near:
            yield f"{name}: is no setting of scorefront and has no effect; did you mean {near[0]}?"
        elif ours:
            yield f"{name}: is no setting of scorefront and has no effect; docs/settings.md lists them"
