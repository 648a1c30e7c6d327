"""Replicas and their providers: one interface (`cluster.provider`), several implementations.

This package never decides on a number of replicas and never routes a request. It imports `serving` only.
"""
