"""Holds rendered manifests against each other and against the programs: what no schema knows.

Selectors select, probes name health services that the contracts have, settings are settings that the program has, the grace is longer than
the drain, policies' named ports are ports, and what runs fits the room that is asked for.
"""

from __future__ import annotations

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Every program reads these crates' defaults, and its own.
SHARED = ("serving", "onnx")
# How long a process may take to end after its drain: docs/operations.md, Roll.
END_SECONDS = 10


def keys(crates: tuple[str, ...]) -> set[str]:
    """All keys of these crates' defaults, as `section.key`."""
    found: set[str] = set()

    def walk(table: dict, prefix: str) -> None:
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                found.add(f"{prefix}{key}")

    for crate in crates:
        walk(tomllib.loads((ROOT / f"crates/{crate}/src/defaults.toml").read_text()), "")
    return found


def health_names() -> set[str]:
    """The gRPC services of the contracts, by full name."""
    found = set()
    for path in (ROOT / "proto").rglob("*.proto"):
        text = path.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        if package:
            found |= {f"{package[1]}.{name}" for name in re.findall(r"^service (\w+)", text, re.MULTILINE)}
    return found


def selects(selector: dict, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In", one
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def templates(objects: list[dict]) -> list[dict]:
    return [item["spec"]["template"] for item in objects if item["kind"] in ("Deployment", "Job")]


def settings(objects: list[dict]) -> dict:
    """The one configuration file that all services share."""
    (found,) = (item["data"]["quintet.toml"] for item in objects if item["kind"] == "ConfigMap")
    return tomllib.loads(found)


def check_selectors(objects: list[dict]) -> list[str]:
    labels = [item.get("metadata", {}).get("labels", {}) for item in templates(objects)]
    faults = []
    for item in objects:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Service":
            wanted = {"matchLabels": item["spec"]["selector"]}
        elif item["kind"] == "PodDisruptionBudget":
            wanted = item["spec"]["selector"]
        elif item["kind"] == "NetworkPolicy" and item["spec"]["podSelector"]:
            wanted = item["spec"]["podSelector"]
        else:
            continue
        hit = sum(selects(wanted, one) for one in labels)
        # A policy may be for several services, and for clients that are not among these objects.
        if item["kind"] != "NetworkPolicy" and hit != 1:
            faults.append(f"{name} selects {hit} Deployments")
        if item["kind"] == "NetworkPolicy" and hit == 0 and "quintet-client" not in wanted.get("matchLabels", {}):
            faults.append(f"{name} selects nothing")
    return faults


def check_calls(objects: list[dict]) -> list[str]:
    """Every endpoint in the environment is a Service, and a policy lets the call out and in."""
    faults = []
    services = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Service"}
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]

    def peers(labels: dict, side: str, to: str) -> list[dict]:
        rules = [rule for policy in policies if side in policy["policyTypes"] and selects(policy["podSelector"], labels)
                 for rule in policy.get(side.lower(), [])]
        # A peer with a namespace's selector is none of ours.
        found = (peer for rule in rules for peer in rule.get(to, []) if "namespaceSelector" not in peer)
        return [peer["podSelector"] for peer in found if "podSelector" in peer]

    for template in templates(objects):
        for variable in template["spec"]["containers"][0].get("env", []):
            called = re.fullmatch(r"https?://([\w-]+):(\d+)", variable.get("value") or "")
            if not called:
                continue
            name, port = called[1], int(called[2])
            if name not in services or port not in (one["port"] for one in services[name]["ports"]):
                faults.append(f"{variable['name']}: no Service {name} has the port {port}")
                continue
            caller, target = template.get("metadata", {}).get("labels", {}), services[name]["selector"]
            if not any(selects(peer, target) for peer in peers(caller, "Egress", "to")):
                faults.append(f"{variable['name']}: no policy lets the call out")
            if not any(selects(peer, caller) for peer in peers(target, "Ingress", "from")):
                faults.append(f"{variable['name']}: no policy lets the call in")
    return faults


def check_environment(component: str, variables: list[str]) -> list[str]:
    """Variables that look like settings are settings of that program."""
    known = keys((*SHARED, component))
    wrong = (name for name in variables if name.startswith("QUINTET_")
             and name.removeprefix("QUINTET_").lower().replace("__", ".") not in known)
    return [f"{name} is no setting of quintet-{component}" for name in wrong]


def check_compose(composed: dict) -> list[str]:
    """Settings are settings, and endpoints are names of the network."""
    services, faults = composed["services"], []
    names = {alias for one in services.values() if "networks" in one for alias in one["networks"]["default"]["aliases"]}
    for component, one in services.items():
        environment = one.get("environment", {})
        faults += check_environment(component, list(environment)) if environment else []
        called = (re.match(r"https?://([\w-]+):50051$", value) for value in environment.values() if value.startswith("http"))
        faults += [f"compose: {component} calls a name that is none" for match in called if not match or match[1] not in names]
    return faults


def check_pods(objects: list[dict]) -> list[str]:
    faults, names, shared = [], health_names(), settings(objects)
    unknown = {f"{section}.{key}" for section, table in shared.items() for key in table} - keys(SHARED)
    faults += [f"quintet.toml: unknown key {key}" for key in sorted(unknown)]
    server = shared["server"]
    least = server["drain_delay_seconds"] + server["drain_seconds"] + END_SECONDS
    for item in objects:
        if item["kind"] != "Deployment":
            continue
        name, spec = item["metadata"]["name"], item["spec"]["template"]["spec"]
        component = item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        (container,) = spec["containers"]
        if spec["terminationGracePeriodSeconds"] <= least:
            faults.append(f"{name}: the grace must be longer than {least} s")
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if "grpc" in probe:
                if probe["grpc"]["service"] not in names:
                    faults.append(f"{name}: {kind} asks for {probe['grpc']['service']}, which no contract has")
                if probe["grpc"]["port"] not in (port["containerPort"] for port in container["ports"]):
                    faults.append(f"{name}: {kind} asks at another port")
        if server["listen"].rsplit(":", 1)[1] not in (str(port["containerPort"]) for port in container["ports"]):
            faults.append(f"{name}: it listens elsewhere")
        faults += check_environment(component, [variable["name"] for variable in container.get("env", [])])
        limits = container["resources"]["limits"]
        if not limits["cpu"].isdigit() or limits["cpu"] != container["resources"]["requests"]["cpu"]:
            faults.append(f"{name}: processors are asked for by wholes, and as many as the limit: the pool has a thread for each")
        mounted = {mount["name"] for one in [container, *spec.get("initContainers", [])] for mount in one["volumeMounts"]}
        if mounted != {volume["name"] for volume in spec["volumes"]}:
            faults.append(f"{name}: volumes and mounts differ")
        cluster_ports = {port["name"] for port in container["ports"]}
        for policy in (one["spec"] for one in objects if one["kind"] == "NetworkPolicy"):
            for rule in policy.get("ingress", []):
                named = {port["port"] for port in rule.get("ports", []) if isinstance(port["port"], str)}
                if not named <= cluster_ports:
                    faults.append(f"{name}: a policy names the port {named - cluster_ports}")
    return faults


def check(objects: list[dict]) -> list[str]:
    """Everything that is wrong, in words."""
    return [*check_selectors(objects), *check_calls(objects), *check_pods(objects)]
