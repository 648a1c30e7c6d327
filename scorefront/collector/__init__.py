"""`scorefront collector`: the process that stores collected payloads, and the port for the data of scripts.

It must never import the control plane's process or the router's.
"""
