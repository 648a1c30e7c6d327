"""Numbers in, wanted replicas out: the rule that turns busy and waiting requests into a number of replicas.

Pure but for `autoscaler.scaling_loop`, the only asyncio module, which declares the Protocols that others satisfy.
This package
must never start or stop a replica, and never ask what a replica is.
"""
