"""Models, environments, artifacts and deployments, kept in one store; the Azure ML v1 protocol over them.

Code of users never runs in this package's process.
"""
