"""Modules of the Azure ML v1 SDK for scripts of replicas that lack the SDK. Never imported by scorefront."""
