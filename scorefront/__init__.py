"""What people type and import: the command line, and the composition of router, autoscaler, control plane and provider.

The only package where concrete parts meet. It must never hold a rule of routing or scaling itself, and importing it
must stay cheap: worker processes do.
"""

__version__ = "0.1.0"
