"""Fault injection: each scenario breaks one thing under load, on the whole product, and reports the cost.

    python -m loadtests.faults [NUMBER...] [--quick]

Every scenario is bounded in time and requests, talks to loopback only, and ends what it started. Nothing here is
imported by the product.
"""
