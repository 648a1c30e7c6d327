"""Replay of a recorded trace through the scaling policy in virtual time.

It must never have a rule of scaling of its own: the policy is `autoscaler.policy`.
"""
