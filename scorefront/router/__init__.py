"""`scorefront router`, the process of a router pod: workers fed from the Kubernetes API.

`router_process` composes it. `cluster_watch` follows endpoints and pods; `configmap_membership` agrees with the other
routers on views (`sole_member` remembers across a restart); `uplink` reports to the leader and takes its orders;
`admin_port` answers the kubelet. It must never write to a workload, read a Secret, or need a control pod to serve.
"""
