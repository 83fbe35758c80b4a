"""Writes the PrometheusRule of the component servicemonitor, which holds the same groups as deploy/prometheus/rules.yaml."""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules.yaml"
OBJECT = ROOT / "deploy/k8s/components/servicemonitor/prometheus-rule.yaml"
HEAD = """# Made from deploy/prometheus/rules.yaml by scripts/deploy/prometheus_rule.py: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: quintet
  namespace: quintet
spec:
"""


def written() -> str:
    """The object as it should stand in its file."""
    text = RULES.read_text()
    groups = text[text.index("groups:"):]
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


if __name__ == "__main__":
    OBJECT.write_text(written())
