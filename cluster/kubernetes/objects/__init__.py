"""Objects of the Kubernetes API as plain dicts, to and from the records of `serving`.

Pure. This package must never call the API, read a clock or draw a random number: times are passed in as text, objects
to write are returned as dicts.
"""
