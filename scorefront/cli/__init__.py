"""The command line: one module per group of commands, `app` composes them and turns errors into exit statuses.

Commands read arguments, call the control plane (`scorefront.client`) or compose a process (`scorefront.up`), and print.
They must never decide anything about routing or scaling, and never print a traceback or a secret nobody asked for.
"""
