"""What people type and import: the command line, and the composition of router, autoscaler, control plane and provider.

The only package where concrete parts meet, each kind of process in a folder of its own: `cli` and `doctor` are what is
typed, `laptop` is everything on one machine, `router_pod` and `control_pod` are the processes of a cluster. What more
than one of them needs stands here. It must never hold a rule of routing or scaling itself, and importing it must stay
cheap: worker processes do.
"""

__version__ = "0.1.0"
