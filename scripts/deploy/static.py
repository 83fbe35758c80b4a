"""Checks everything under deploy/ that can be checked without running it.

    .venv-deploy/bin/python scripts/deploy/static.py
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

import consistency
import manifests
import metrics
import prometheus_rule

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(sys.executable).parent
# The Kubernetes versions that the manifests are for; volumes of images came with the newer ones.
OLDEST, NEWEST = "1.29", "1.37"
ONLY_NEWEST = {"model-oci-volume"}
# Components that may stand together, in one kustomization.
TOGETHER = ("hpa", "servicemonitor", "gateway-api", "tls", "model-pvc", "evaluation-job", "evaluation-postgres", "kserve")


def run(*command: str | os.PathLike, folder: pathlib.Path = ROOT) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def render(scratch: pathlib.Path) -> dict[str, pathlib.Path]:
    """Each overlay, the CPU overlay with each component, and with all that go together: files of objects."""
    wanted = {name: (name, ()) for name in manifests.names("overlays")}
    wanted |= {name: ("cpu", (name,)) for name in manifests.names("components")}
    wanted["all"] = ("cpu", TOGETHER)

    def one(name: str) -> tuple[str, pathlib.Path]:
        path = scratch / f"{name}.yaml"
        path.write_text(manifests.render(*wanted[name]))
        return name, path

    with concurrent.futures.ThreadPoolExecutor(2) as rendering:
        return dict(rendering.map(one, wanted))


def check_schemas(rendered: dict[str, pathlib.Path]) -> list[str]:
    faults = []
    for version in (OLDEST, NEWEST):
        files = [path for name, path in rendered.items() if version == NEWEST or name not in ONLY_NEWEST]
        code, output = run(TOOLS / "kubernetes-validate", "--kubernetes-version", version, "--strict", "--quiet", "--no-warn", *files)
        if code != 0:
            faults.append(f"Kubernetes {version}: {output}")
    return faults


def check_consistency(rendered: dict[str, pathlib.Path]) -> list[str]:
    faults = []
    for name, path in rendered.items():
        faults += [f"{name}: {fault}" for fault in consistency.check(manifests.objects(path.read_text()))]
    composed = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    return faults + consistency.check_compose(composed)


def check_checkov(rendered: dict[str, pathlib.Path]) -> list[str]:
    files = [*rendered.values(), ROOT / "deploy/image/Containerfile", ROOT / "deploy/image/models.Containerfile"]
    command = [TOOLS / "checkov", "--config-file", ROOT / "deploy/.checkov.yaml", "--framework", "kubernetes", "dockerfile"]
    code, output = run(*command, *(part for file in files for part in ("--file", file)))
    return [] if code == 0 else [f"checkov: {output}"]


def check_images(_: dict[str, pathlib.Path]) -> list[str]:
    code, output = run(TOOLS / "hadolint", "deploy/image/Containerfile", "deploy/image/models.Containerfile")
    return [] if code == 0 else [f"hadolint: {output}"]


def check_prometheus(_: dict[str, pathlib.Path]) -> list[str]:
    promtool = os.environ["PROMTOOL"]
    faults = []
    commands = (("check", "rules", "rules.yaml"), ("test", "rules", "rules.test.yaml"), ("check", "config", "--syntax-only", "scrape.yaml"))
    for command in commands:
        code, output = run(promtool, *command, folder=ROOT / "deploy/prometheus")
        if code != 0:
            faults.append(f"promtool {' '.join(command)}: {output}")
    tested = (ROOT / "deploy/prometheus/rules.test.yaml").read_text()
    for group in yaml.safe_load(prometheus_rule.RULES.read_text())["groups"]:
        alerts = [rule["alert"] for rule in group["rules"] if "alert" in rule]
        faults += [f"no test makes {name} fire" for name in alerts if f"alertname: {name}\n" not in tested]
    if prometheus_rule.OBJECT.read_text() != prometheus_rule.written():
        faults.append(f"{prometheus_rule.OBJECT} is not of {prometheus_rule.RULES}: scripts/deploy/prometheus_rule.py writes it")
    return faults


def check_dashboards(_: dict[str, pathlib.Path]) -> list[str]:
    """Metrics that are documented, in queries that Prometheus can read."""
    faults = metrics.check()
    with tempfile.TemporaryDirectory() as scratch:
        for path in (ROOT / "deploy/grafana").glob("*.json"):
            queries = [query for query in metrics.expressions(json.loads(path.read_text())) if not query.startswith("label_values(")]
            plain = (query.replace("$__rate_interval", "5m").replace("$namespace", ".*") for query in queries)
            rules = [{"record": f"dashboard:query:{index}", "expr": query} for index, query in enumerate(plain)]
            file = pathlib.Path(scratch, "queries.yaml")
            file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
            code, output = run(os.environ["PROMTOOL"], "check", "rules", file)
            if code != 0:
                faults.append(f"{path.name}: {output}")
    return faults


def check_systemd(_: dict[str, pathlib.Path]) -> list[str]:
    """Where the machine has systemd's tools: units that it can read, shut in as tightly as they say."""
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not here: units are not checked")
        return []
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        units, programs = root / "etc/systemd/system", root / "usr/lib/quintet"
        units.mkdir(parents=True)
        programs.mkdir(parents=True)
        shutil.copy(ROOT / "deploy/systemd/quintet@.service", units)
        for settings in (ROOT / "deploy/systemd").glob("*.toml"):
            program = programs / f"quintet-{settings.stem}"
            program.write_text("#!/bin/true\n")
            program.chmod(0o755)
            unit = f"quintet@{settings.stem}.service"
            # An exposure of 2.0 of 10 at most.
            for command in ("verify --man=no --recursive-errors=no", "security --offline=true --threshold=20 --no-pager"):
                code, output = run("systemd-analyze", *command.split(), f"--root={root}", unit)
                if code != 0:
                    faults.append(f"{unit}: {output}")
    return faults


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        rendered = render(pathlib.Path(scratch))
        faults = []
        for check in (check_consistency, check_schemas, check_checkov, check_images, check_prometheus, check_dashboards, check_systemd):
            found = check(rendered)
            print(f"{check.__name__.removeprefix('check_')}: {'ok' if not found else f'{len(found)} faults'}", flush=True)
            faults += found
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise SystemExit(1)
    print(f"{len(rendered)} kustomizations are sound for Kubernetes {OLDEST} and {NEWEST}")


if __name__ == "__main__":
    main()
