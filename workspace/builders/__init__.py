"""Builders: from the definition of an environment to an interpreter that has its packages.

Must never run code of users in this process, nor give a key or a token to the process that builds.
"""
