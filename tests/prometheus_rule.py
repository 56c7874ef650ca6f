"""Print the rules of deploy/prometheus as one PrometheusRule of the Prometheus Operator: `make rules`."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent

RULES = Path(__file__).parents[1] / "deploy/prometheus/rules"
HEAD = """\
# For the Prometheus Operator: the rules of deploy/prometheus/rules. `make rules` writes this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: provider-registration
  labels:
    app.kubernetes.io/name: provider-registration
spec:
  groups:
"""


def prometheus_rule() -> str:
    """The manifest with the groups of every file, unchanged."""
    groups = (path.read_text().partition("\ngroups:\n")[2].rstrip("\n") for path in sorted(RULES.glob("*.yml")))
    return HEAD + "\n\n".join(indent(text, "  ") for text in groups) + "\n"


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule())
