"""The PrometheusRule with the rules of rules.yaml, for the Prometheus operator: `python deploy/prometheus/wrap.py`."""

import textwrap
from pathlib import Path

FOLDER = Path(__file__).parent
HEAD = """\
# Made of rules.yaml by wrap.py. For the Prometheus operator; the cluster needs its kind PrometheusRule.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: scorefront
  labels: {app.kubernetes.io/name: scorefront}
spec:
"""


def wrapped(rules: str) -> str:
    """The object as YAML. `rules`: text of a rule file."""
    return HEAD + textwrap.indent(rules[rules.index("groups:") :], "  ")


if __name__ == "__main__":
    (FOLDER / "prometheus-rule.yaml").write_text(wrapped((FOLDER / "rules.yaml").read_text()))
