"""Namespace of the SDK's contributed packages."""
