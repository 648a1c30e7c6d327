"""Declared to running: keeps what users declared, has a provider make it so, tells the routers, answers REST.

This package holds the only durable state of a laptop installation. It must never route a request, never decide how
many replicas a version needs (`autoscaler` does), and never import `router` or `prometheus_client`: `scorefront`
composes them.
"""
