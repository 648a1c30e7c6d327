"""HTTP/1.1 towards clients and towards replicas: framing, pooled connections, backpressure, timeouts.

llhttp (httptools) parses; what it lets through and a router must not is refused here. This package must never decide
where a request goes or whether it may: it asks `router.core`.
"""
