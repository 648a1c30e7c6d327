"""`scorefront doctor`: checks of a cluster's network and rights, in the order of their use.

Read-only: it must never change anything in the cluster (access reviews are stored nowhere), and needs no more rights
than a router. `probes` observes,
`judge` (pure) turns observations into findings.
"""
