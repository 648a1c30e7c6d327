"""The objects of the Kubernetes API as plain dicts, to and from the records of `serving`.

Pure. This package must never call the API, read a clock or draw a random number: times come in as text, what is to be
written goes out as a dict, and somebody else sends it.
"""
