"""Replicas that are pods: what a cluster's API says becomes what `serving` says, and back.

This package never decides how many replicas there should be, never routes a request, and touches no node.
`kubeconfig` alone imports kubernetes_asyncio; `objects`, `paths`, `discovery` and `election` are pure.
"""
