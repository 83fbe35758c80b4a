"""Runs the pods of rendered manifests under podman, on a network of their own.

podman plays no Deployment as a cluster does: it has no controllers, asks no probes that are gRPC's, gives an emptyDir one name for all
pods, and publishes container ports on the machine. So a Deployment's replicas are played as pods of its template, each with volumes of
its own and without `ports`; everything else of the template is executed as it stands. The addresses of a Service are its pods' aliases.
"""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import yaml

from images import podman, run

NETWORK = "quintet-check"


@dataclasses.dataclass
class Pod:
    """A pod that runs: a container that serves, and perhaps one that has copied its models."""

    name: str
    component: str
    spec: dict
    container: str = "quintet"

    def _inspect(self) -> dict:
        return json.loads(podman("container", "inspect", f"{self.name}-{self.container}"))[0]

    @property
    def process(self) -> int:
        """The program's process on this machine; 0 while it does not run."""
        return self._inspect()["State"]["Pid"]

    @property
    def exit_code(self) -> int:
        return self._inspect()["State"]["ExitCode"]

    @property
    def address(self) -> str:
        infra = json.loads(podman("pod", "inspect", self.name))["InfraContainerID"]
        found = json.loads(podman("container", "inspect", infra))[0]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
        return f"{found}:{self.spec['containers'][0]['readinessProbe']['grpc']['port']}"

    def terminate(self) -> int:
        """SIGTERM, and SIGKILL when the pod's grace is over, as a kubelet does: the exit code."""
        podman("stop", "--time", str(self.spec["terminationGracePeriodSeconds"]), f"{self.name}-{self.container}")
        return self.exit_code

    def kill(self) -> None:
        """As the kernel does when memory is gone: nobody is asked."""
        os.kill(self.process, signal.SIGKILL)

    def log(self) -> str:
        return subprocess.run(["podman", "logs", f"{self.name}-{self.container}"], capture_output=True, text=True, check=False).stderr


def of_template(name: str, template: dict, restart: str = "OnFailure", variables: tuple[dict, ...] = ()) -> dict:
    """A pod of a template, as its controller would make it; `variables` are those that the controller adds."""
    spec = copy.deepcopy(template["spec"])
    for container in spec["containers"]:
        container.pop("ports", None)
        # A kubelet writes variables into arguments; podman 4 does not.
        known = {variable["name"]: variable["value"] for variable in [*container.get("env", []), *variables] if "value" in variable}
        container["args"] = [re.sub(r"\$\((\w+)\)", lambda name: known[name[1]], part) for part in container.get("args", [])]
    for volume in spec.get("volumes", []):
        if "emptyDir" in volume:
            old, volume["name"] = volume["name"], f"{name}-{volume['name']}"
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                for mount in container.get("volumeMounts", []):
                    if mount["name"] == old:
                        mount["name"] = volume["name"]
    # podman begins an init container anew that has ended well, where the policy is "Always". What is killed comes back by this one too.
    spec["restartPolicy"] = restart
    metadata = {"name": name, "labels": template.get("metadata", {}).get("labels", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def exit_of(container: str) -> tuple[int, str]:
    """Waits for a container's end: its exit code, and what it printed; where it failed, to both ends."""
    code = int(podman("wait", container))
    done = subprocess.run(["podman", "logs", container], capture_output=True, text=True, check=True)
    return code, done.stdout if code == 0 else done.stdout + done.stderr


class Cluster:
    """The pods of the Deployments among `objects`. They, their volumes and their network are gone at the end."""

    def __init__(self, objects: list[dict]) -> None:
        self.objects = objects
        self.pods: list[Pod] = []

    def __enter__(self) -> Cluster:
        self._clear()
        podman("network", "create", NETWORK)
        wanted = []
        for item in self.objects:
            if item["kind"] == "Deployment":
                wanted += [(item, index) for index in range(item["spec"]["replicas"])]
        # All at once: each waits for its copier.
        with concurrent.futures.ThreadPoolExecutor(len(wanted)) as starting:
            self.pods = list(starting.map(lambda one: self._start(*one), wanted))
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        here = ("--filter", f"network={NETWORK}")
        # What ends by itself in between is in nobody's state for a moment: once more, then.
        for _ in range(3):
            for name in run("podman", "pod", "ps", *here, "--format", "{{.Name}}").split():
                subprocess.run(["podman", "pod", "rm", "--force", "--time", "0", name], capture_output=True, check=False)
        for name in run("podman", "ps", "--all", *here, "--format", "{{.Names}}").split():
            subprocess.run(["podman", "rm", "--force", "--time", "0", name], capture_output=True, check=False)
        for name in run("podman", "volume", "ls", "--format", "{{.Name}}").split():
            if name.startswith("quintet-"):
                subprocess.run(["podman", "volume", "rm", "--force", name], capture_output=True, check=False)
        subprocess.run(["podman", "network", "rm", "--force", NETWORK], capture_output=True, check=False)

    def aliases(self, labels: dict[str, str]) -> list[str]:
        """The names of the Services that select a pod of these labels."""
        services = (item for item in self.objects if item["kind"] == "Service")
        return [item["metadata"]["name"] for item in services if item["spec"]["selector"].items() <= labels.items()]

    def play(self, pod: dict) -> None:
        """Runs one pod, with the ConfigMaps of the manifests."""
        settings = [item for item in self.objects if item["kind"] == "ConfigMap"]
        names = ",".join(f"alias={name}" for name in self.aliases(pod["metadata"]["labels"]))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump_all([*settings, pod], file)
            file.flush()
            podman("play", "kube", "--network", f"{NETWORK}:{names}" if names else NETWORK, file.name)

    def _start(self, deployment: dict, index: int) -> Pod:
        name = f"{deployment['metadata']['name']}-{index}"
        template = deployment["spec"]["template"]
        self.play(of_template(name, template))
        return Pod(name, template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"])

    def balancer(self, program: str, image: str, configuration: pathlib.Path) -> str:
        """A balancer before the services: its address."""
        name = f"quintet-{program}"
        place = {"haproxy": "/etc/haproxy/haproxy.cfg", "nginx": "/etc/nginx/nginx.conf"}[program]
        start = {"haproxy": ["haproxy", "-W", "-f", place], "nginx": ["nginx", "-g", "daemon off;"]}[program]
        podman("run", "--detach", "--name", name, "--network", NETWORK, "--volume", f"{configuration}:{place}:ro", image, *start)
        found = json.loads(podman("container", "inspect", name))[0]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
        return f"{found}:50050"
