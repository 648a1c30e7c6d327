"""The autoscaler: usage reports in, desired numbers of replicas, workers and routers out.

Pure but for `autoscaler.scaling_loop`, the only asyncio module, which declares the Protocols of its surroundings. This
package must never start or stop a replica, and has no knowledge of providers.
"""
