"""`scorefront doctor`: what the cluster's network and rights must allow, tried in the order in which it is needed.

Looks only: it must never change anything in the cluster, and needs no more rights than a router has. What was seen is
judged in `scorefront.doctor.judge` (pure), looked at in `scorefront.doctor.probes`.
"""
