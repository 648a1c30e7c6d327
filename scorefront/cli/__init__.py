"""The command line: one module per group of commands, `app` composes them and turns errors into exit statuses.

Commands read arguments (`files` the manifests), call the control plane (`client`) or have a process composed
(`scorefront.up`, `scorefront.router`, `scorefront.control`), and print.
They must never decide anything about routing or scaling, and never print a traceback, or a secret without being asked.
"""
