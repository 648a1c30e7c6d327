"""The domain: declared objects (endpoints, versions, policies) and running ones (replicas).

Pure. This package must never do I/O, read a clock, draw a random number or import asyncio; it may import the standard
library and pydantic only. All values are in seconds, bytes and fractions; percent and milliseconds exist only in
`serving.manifest`, at the border.
"""
