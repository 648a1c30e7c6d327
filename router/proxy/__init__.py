"""HTTP/1.1 to clients (downstream) and replicas (upstream): framing, pooled connections, backpressure, timeouts.

llhttp (httptools) parses; stricter rules for a router are added here. This package must never decide on routes or
permissions: it asks `router.core`. The wire format of HTTP/1.1 is its internal language: heads are rendered once, as
bytes, and a connection to a replica carries one exchange at a time.
"""
