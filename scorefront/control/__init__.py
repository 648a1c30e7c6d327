"""`scorefront control`, the process of a control pod: leader, or standby that forwards REST to the leader.

`control_process` composes it. The leader scales the routers (`router_fleet`) and their cores in place (`pod_resize`);
every process answers REST (`rest_port`) with one `token`. It must never carry a scoring request, and write nothing
once it has lost the leadership.
"""
