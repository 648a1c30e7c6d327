"""Where replicas come from and how their number is changed: one interface (`cluster.provider`), several providers.

This package never decides how many replicas there should be, and never routes a request. It imports `serving` only.
"""
