"""Replicas for a load: azureml-fe's sizing formula, shared by `scorefront size` and the scaling policy."""

import math

ROUNDING_REPLICAS = 1e-6
"""Tolerance for float noise, without which a quotient of 3.0000000000000004 becomes 4 replicas.

A difference of integrals of 10^9 slot-seconds is off by about 10^-7, so 10^-6 covers years of service; a millionth of a
replica is below anything that can be measured.
"""


def replicas_needed(concurrent: float, slots_per_replica: int, target_utilization: float) -> int:
    """ceil(concurrent ÷ (slots per replica × target)): replicas that keep utilization at the target.

    `concurrent`: requests at one time. `slots_per_replica`: at least 1. `target_utilization`: a fraction in (0, 1].
    """
    return math.ceil(concurrent / (slots_per_replica * target_utilization) - ROUNDING_REPLICAS)


def replicas_for(rps: float, seconds: float, target_utilization: float = 0.70, concurrency: int = 1) -> int:
    """Replicas for `rps` requests per second of `seconds` each: 20 rps × 10 s at 0.70 → 286.

    `target_utilization`: a fraction in (0, 1], default 0.70. `concurrency`: requests at a time per replica, default 1.
    Raises ValueError naming the argument and its range.
    """
    for name, load in (("rps", rps), ("seconds", seconds)):
        if not (math.isfinite(load) and load >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, not {load!r}")
    if not 0 < target_utilization <= 1:
        raise ValueError(f"target_utilization must be above 0 and at most 1, not {target_utilization!r}")
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
    return replicas_needed(rps * seconds, concurrency, target_utilization)
