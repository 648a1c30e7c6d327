"""The two processes of a cluster deployment: router, control."""

from scorefront.errors import CommandError

NOT_HERE = "needs the Kubernetes provider, which this version does not have; use `scorefront up` on one machine"


def router() -> None:
    """Run the router of a cluster deployment (not in this version).

    \b
    On one machine, use:
      scorefront up -f examples/iris/endpoint.yaml
    """
    raise CommandError(f"router: {NOT_HERE}")


def control() -> None:
    """Run the control plane of a cluster deployment (not in this version).

    \b
    On one machine, use:
      scorefront up -f examples/iris/endpoint.yaml
    """
    raise CommandError(f"control: {NOT_HERE}")
