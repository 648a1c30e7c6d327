"""`scorefront up`: everything on one machine, and what it says on the terminal.

It must never need a cluster: nothing here, and nothing that it imports for its work, is told anything by Kubernetes.
"""
