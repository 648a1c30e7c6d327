"""`scorefront router`, the process that is a router pod: workers fed from the Kubernetes API, beside those of others.

`router` composes it. What there is comes in through `watch`; who takes part is agreed on in `membership` (by the rules
of `seat`, remembered over a restart by `solitude`); `uplink` tells the leader what is in flight (`counts`) and takes
its orders; `admin` answers the kubelet. It must never write to a workload, never read a Secret, and never need a
control pod to serve.
"""
