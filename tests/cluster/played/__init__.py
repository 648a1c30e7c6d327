"""The product in a cluster that has an API server, a controller-manager and a scheduler, but no machines.

    kubelet     plays the agent of a node: a local process for each container, an address of 127.0.0.0/8 for each pod
    service     plays the Service in front of the routers: connections to ready routers
    site        installs the product with kubectl, as a user does, and watches the result
    step …      measure one promise each: `python -m tests.cluster.played.step`, `.down`, `.rollout`, …

Environment: KUBECONFIG; CLUSTER_CONTROL, a command that is called with `stop apiserver` and `start apiserver`
(without
it, the steps that need it are skipped with a message); CLUSTER_KEEP, a folder in which the journal and all logs of
a run stay.

The judging code never uses the product's own client of the API: a fault of it would be shared. The product never
imports this package, and nothing here may touch a cluster that has nodes of its own.
"""
