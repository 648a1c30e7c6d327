"""The parts of the control plane that only a cluster needs: store, status, follower of foreign changes.

Must never be imported by the rest of the control plane.
"""
