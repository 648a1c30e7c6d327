"""Payload records, request telemetry, metric history and the comparison of versions."""
