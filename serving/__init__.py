"""The domain: what a user declares (endpoints, versions, policies) and what runs (replicas).

Pure. This package must never do I/O, read a clock, draw a random number or import asyncio; it may import the standard
library and pydantic only. Everything inside is in seconds, bytes and fractions; percent and milliseconds exist only in
`serving.manifest`, at the border.
"""
