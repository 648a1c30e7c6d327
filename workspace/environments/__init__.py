"""Environments: definitions of the packages of a script, their canonical form and key, their registry.

Must never install a package or run one: that is for `workspace.builders`.
"""
