"""History of versions: rates, failures, latencies, utilization and replicas in rings of fixed size. Pure.

It must never grow with traffic or time, only with the number of versions.
"""
