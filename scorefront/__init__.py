"""Command line and composition: the only place where router, autoscaler, control plane and providers meet.

Must never hold a rule of routing or scaling. One folder per process or group of commands: `cli` and `doctor`; `up`
(everything on one machine), `router` and `control` (the processes of a cluster). Modules at the top level are shared by
several processes.
"""

__version__ = "0.1.0"
