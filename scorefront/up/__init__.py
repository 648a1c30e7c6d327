"""`scorefront up`: everything on one machine, and its terminal output.

It must never need a cluster.
"""
