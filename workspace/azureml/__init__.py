"""The Azure ML v1 wire protocol: its payloads converted, and its routes on the control port.

Must never hold a rule of deployments, models or environments: it converts, and calls their packages.
"""
