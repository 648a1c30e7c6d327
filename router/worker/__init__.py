"""The worker process of the data plane: composition of proxy, core and peer links.

Must never start or stop another process.
"""
