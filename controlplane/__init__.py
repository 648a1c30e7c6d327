"""Control plane: stores declared endpoints, reconciles them with the provider, publishes them to routers, serves REST.

This package holds the only durable state of a laptop installation. It must never route a request, never compute the
desired replicas of a version (`autoscaler` does), and never import `router` or `prometheus_client`: `scorefront`
composes them.
"""
