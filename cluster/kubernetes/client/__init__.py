"""Generic Kubernetes API client: HTTP, list and watch, leader election.

Must never know of endpoints, versions or replicas.
"""
