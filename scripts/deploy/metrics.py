"""Holds dashboards, rules and autoscalers against the metrics that docs/operations.md lists."""

from __future__ import annotations

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a histogram has besides its name.
SUFFIXES = ("_bucket", "_sum", "_count")
# In the names of recording rules: service:quintet_rpc_errors:ratio_rate5m.
NAMED = re.compile(r"(?<![\w:])quintet_\w+(?![\w:])")


def documented() -> dict[str, set[str]]:
    """Each metric that the page lists, with its labels."""
    rows = re.findall(r"^\| `(quintet_\w+)` \|([^|]*)\|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    return {name: {label.strip() for label in labels.split(",") if label.strip()} for name, labels in rows}


def unknown(text: str) -> set[str]:
    """The metrics named in a text that are not on the page."""
    known = set(documented())
    found = set()
    for name in NAMED.findall(text):
        if known.isdisjoint([name, *(name.removesuffix(suffix) for suffix in SUFFIXES)]):
            found.add(name)
    return found


def expressions(dashboard: dict) -> list[str]:
    """All queries of a dashboard: its panels', and its variables'."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found + [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]


def check() -> list[str]:
    """Everything that is wrong, in words."""
    faults = []
    for path in sorted((ROOT / "deploy/grafana").glob("*.json")):
        dashboard = json.loads(path.read_text())
        queries = expressions(dashboard)
        if not queries:
            faults.append(f"{path.name}: it asks for nothing")
        faults += [f"{path.name}: {name} is not in docs/operations.md" for query in queries for name in sorted(unknown(query))]
        ids = [panel["id"] for panel in dashboard["panels"]]
        if len(set(ids)) != len(ids):
            faults.append(f"{path.name}: two panels have one id")
        shown = " ".join(queries)
        faults += [f"{path.name}: {name} is shown nowhere" for name in sorted(documented()) if name not in shown]
    for path in (*(ROOT / "deploy/prometheus").glob("*.yaml"), *(ROOT / "deploy/k8s/components").rglob("*.yaml")):
        faults += [f"{path.relative_to(ROOT)}: {name} is not in docs/operations.md" for name in sorted(unknown(path.read_text()))]
    return faults
