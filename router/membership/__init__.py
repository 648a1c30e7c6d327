"""Membership views (epochs) of router workers, on one machine and over many. Pure.

Must never do I/O or read a clock: the shells are `router.supervisor` and `scorefront.router`.
"""
