"""Replicas as pods: objects of the Kubernetes API become records of `serving`, and records become objects.

This package never decides the number of replicas, never routes a request and never accesses a node.
`kubeconfig` alone imports kubernetes_asyncio; `objects`, `paths`, `cluster_index`, `discovery` and `election` are pure.
"""
