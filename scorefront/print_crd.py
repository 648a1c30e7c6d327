"""`python -m scorefront.print_crd` prints the CustomResourceDefinition as YAML, as in `deploy/base/crd.yaml`."""

import sys

import yaml

from cluster.kubernetes.objects.crd import crd

HEADER = "# Made from the models in serving/ by `make crd`; a test holds the two together. Do not edit by hand.\n"


def text() -> str:
    """The file, whole."""
    return HEADER + yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(text())
