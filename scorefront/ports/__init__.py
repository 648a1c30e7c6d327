"""The control and admin ports of every process: connection limits, timeouts, certificates.

They never serve scoring requests.
"""
