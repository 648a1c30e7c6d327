"""The command that looks a cluster over."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from scorefront.cli import show
from scorefront.cli.arguments import TextFormat

if TYPE_CHECKING:
    from scorefront.doctor.judge import Finding


def doctor(
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="S", help="Seconds that each step may take.", min=0.001, max=600.0),
    ] = 15,
    output: Annotated[TextFormat, typer.Option("-o", "--output", help="How to print.")] = TextFormat.TEXT,
) -> None:
    """Check a cluster and report problems: network, rights, routers, models, registry.

    Each line is `ok` or a problem with its remedy; exit status 1 if there is a problem. In a pod it also connects to
    other pods. KUBECONFIG, SCOREFRONT_NAMESPACE and SCOREFRONT_NAMESPACES choose the cluster and the namespaces.

    \b
    Examples:
      scorefront doctor
      kubectl exec deployment/scorefront-router -- scorefront doctor
    """
    raise typer.Exit(asyncio.run(_run(timeout, output)))


async def _run(timeout_s: float, output: TextFormat) -> int:
    from cluster.kubernetes.client.api_errors import ApiError  # late: only this command needs a client of the API
    from scorefront.doctor.examine import examine
    from scorefront.doctor.judge import Finding, report
    from scorefront.doctor.probes import Probes

    findings = []
    try:
        probes = await Probes.open()
    except ApiError as error:
        findings.append(Finding("credentials", False, error.message))
        if output is TextFormat.TEXT:
            _print(findings[0])
    else:
        try:
            async for finding in examine(probes, timeout_s):
                findings.append(finding)
                if output is TextFormat.TEXT:
                    _print(finding)
        finally:
            await probes.close()
    if output is TextFormat.JSON:
        print(show.as_json(report(findings)))
    return 0 if all(finding.ok for finding in findings) else 1


def _print(finding: "Finding") -> None:
    print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.check}: {finding.text}", flush=True)
