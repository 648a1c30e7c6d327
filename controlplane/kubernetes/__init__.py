"""The Kubernetes part of the control plane: store, status, callers, follower of foreign changes.

Must never be imported by the rest of the control plane.
"""
