"""Load and fault runs against the whole product, as a user starts it. Each prints figures; none is part of the suite.

Every run is bounded in requests and time and talks to loopback only.
"""
