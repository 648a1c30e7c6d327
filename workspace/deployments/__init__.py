"""Deployments: operations that turn source, environment and models into a declared endpoint, step by step.

It must never run code of users; that is for replicas and builders.
"""
