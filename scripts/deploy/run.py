"""Executes the manifests under podman: builds the images, runs every pod of overlays/cpu, calls the services through both balancers,
and ends replicas under load.

It says nothing of what only a cluster has: controllers, kubelets that ask probes, network policies, Services' virtual addresses.
"""

from __future__ import annotations

import collections
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import images
import manifests
from cluster import Cluster, Pod, exit_of, of_template

ROOT = images.ROOT
sys.path.insert(0, str(ROOT / "tests/python"))
import client  # noqa: E402

# A replica that is up has loaded, verified and warmed its models by then, on a slow machine too.
PATIENCE_SECONDS = 300


def until(what: str, holds, seconds: float = PATIENCE_SECONDS) -> None:
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)


def answers(pod: Pod, probe: dict) -> bool:
    """What a kubelet would find that asks this gRPC probe."""
    address = f"{pod.address.rsplit(':', 1)[0]}:{probe['grpc']['port']}"
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=probe.get("timeoutSeconds", 1)).status
            return status == health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError:
            return False


def check_ready(pods: list[Pod]) -> None:
    for pod in pods:
        (container,) = pod.spec["containers"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            until(f"{kind} of {pod.name}", lambda pod=pod, probe=container[kind]: answers(pod, probe))


def check_confined(pod: Pod) -> None:
    """Not root, no rights, no new ones, a filter of system calls, and nowhere to write but its volumes."""
    process = pathlib.Path("/proc", str(pod.process))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    wanted = str(pod.spec["securityContext"]["runAsUser"])
    assert set(status["Uid"].split()) == {wanted} and set(status["Gid"].split()) == {wanted}, (pod.name, status["Uid"], status["Gid"])
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, (pod.name, status["CapBnd"])
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", pod.name
    for place in ("", "usr/lib/quintet", "etc/quintet", "data/models"):
        # Seen through its root; we are root, and are refused none the less.
        try:
            (process / "root" / place / "written").write_text("")
        except OSError as error:
            assert error.errno == 30, (pod.name, place, error)
        else:
            raise AssertionError(f"{pod.name}: /{place} can be written to")
    for place in ("tmp", "var/cache/quintet"):
        (process / "root" / place / "written").write_text("")


def calls_of(pod: Pod) -> float:
    """How many calls of Generate a replica has ended."""
    with urllib.request.urlopen(f"http://{pod.address}/metrics") as page:
        lines = page.read().decode().splitlines()
    found = (line for line in lines if line.startswith("quintet_rpc_requests_total{") and 'method="Generate"' in line)
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


class Load:
    """Clients that ask for texts until they are told to stop."""

    def __init__(self, address: str, clients: int, retries: bool) -> None:
        from quintet.text.v1 import text_pb2, text_pb2_grpc

        self.pb, self.stub = text_pb2, text_pb2_grpc.TextServiceStub
        self.address, self.retries = address, retries
        self.done, self.again = 0, 0
        self.failures: collections.Counter[str] = collections.Counter()
        self.texts: dict[int, set[str]] = collections.defaultdict(set)
        self._lock, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def more(self, calls: int) -> None:
        """Waits until so many calls more have ended."""
        wanted = self.done + calls
        until(f"{calls} calls more", lambda: self.done >= wanted or self.failures, 120)

    def _client(self, number: int) -> None:
        # A channel of its own, as clients in different processes have.
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = self.stub(channel)
            while not self._end.is_set():
                seed = number % 3
                request = self.pb.GenerateRequest(prompt="And the king said", sampling=self.pb.Sampling(seed=seed),
                                                  stopping=self.pb.Stopping(max_new_tokens=24))
                text = self._ask(stub, request)
                with self._lock:
                    if text is not None:
                        self.texts[seed].add(text)
                        self.done += 1

    def _ask(self, stub, request) -> str | None:
        """One text: asked for again where nobody took the call, up to five times."""
        for attempt in range(6):
            try:
                return stub.Generate(request, timeout=60).text
            except grpc.RpcError as error:
                if self.retries and error.code() == grpc.StatusCode.UNAVAILABLE and attempt < 5:
                    with self._lock:
                        self.again += 1
                    time.sleep(0.1 * 2**attempt)
                else:
                    with self._lock:
                        self.failures[f"{error.code()}: {error.details()}"] += 1
                    return None
        return None


def check_sound(load: Load, what: str) -> None:
    assert not load.failures, f"{what}: {load.failures}"
    # The same seed gives the same bytes, from whichever replica of one kind of machine.
    assert all(len(texts) == 1 for texts in load.texts.values()), f"{what}: replicas wrote different texts"
    print(f"{what}: {load.done} calls, none failed, {load.again} were asked again", flush=True)


def check_spread(address: str, replicas: list[Pod], what: str) -> None:
    before = {pod.name: calls_of(pod) for pod in replicas}
    with Load(address, 6, retries=False) as load:
        load.more(60)
    check_sound(load, what)
    shares = {pod.name: calls_of(pod) - before[pod.name] for pod in replicas}
    assert all(share > 0 for share in shares.values()), f"{what}: {shares}"
    print(f"{what}: {', '.join(f'{name} {share:.0f}' for name, share in shares.items())}", flush=True)


def check_every_service(address: str) -> None:
    """The Python client of every service, through a balancer: streams, cancellation, deadlines, error details, an evaluation."""
    with tempfile.TemporaryDirectory() as stubs:
        command = [sys.executable, str(ROOT / "tests/python/client.py"), "--address", address, "--stubs", stubs]
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def check_drain(address: str, pod: Pod, retries: bool, what: str) -> None:
    with Load(address, 6, retries) as load:
        load.more(20)
        code = pod.terminate()
        load.more(20)
    assert code == 0, f"{what}: {pod.name} ended with {code}:\n{pod.log()[-2000:]}"
    check_sound(load, what)


def check_kill(address: str, pod: Pod, what: str) -> None:
    with Load(address, 6, retries=True) as load:
        load.more(20)
        pod.kill()
        load.more(40)
    check_sound(load, what)
    # The restart policy brings it back.
    until(f"{pod.name} is back", lambda: pod.process > 0 and answers(pod, pod.spec["containers"][0]["readinessProbe"]))


def check_job(cluster: Cluster) -> None:
    """The first index of the component evaluation-job, as the Job's controller would start it."""
    objects = manifests.objects(manifests.render("cpu", ("evaluation-job",)))
    (job,) = (item for item in objects if item["kind"] == "Job")
    index = {"name": "JOB_COMPLETION_INDEX", "value": "0"}
    cluster.play(of_template("quintet-evaluate-0", job["spec"]["template"], "Never", (index,)))
    code, printed = exit_of("quintet-evaluate-0-evaluate")
    assert code == 0, printed
    figures = [json.loads(line) for line in printed.splitlines()]
    assert any(figure["name"] == "fid" and figure["seed"] == 0 for figure in figures), printed
    print("the first index of the evaluation Job has its figures", flush=True)


def check_kserve(cluster: Cluster) -> None:
    """The container of KServe's ServingRuntime, with a graph where KServe would put it."""
    objects = manifests.objects(manifests.render("cpu", ("kserve",)))
    (runtime,) = (item for item in objects if item["kind"] == "ServingRuntime")
    with tempfile.TemporaryDirectory() as folder:
        version = pathlib.Path(folder, "digits/1")
        version.mkdir(parents=True)
        shutil.copy(ROOT / "deploy/models/vae-digits/1/encoder.onnx", version / "model.onnx")
        pathlib.Path(folder).chmod(0o755)
        spec = {"containers": runtime["spec"]["containers"], "volumes": [{"name": "model", "hostPath": {"path": folder}}]}
        spec["containers"][0]["volumeMounts"] = [{"name": "model", "mountPath": "/mnt/models", "readOnly": True}]
        cluster.play(of_template("quintet-kserve", {"spec": spec}))
        pod = Pod("quintet-kserve", "kserve", spec, "kserve-container")
        until("the readiness probe of KServe's runtime", lambda: answers(pod, spec["containers"][0]["readinessProbe"]))
        from inference import grpc_inference_pb2, grpc_inference_pb2_grpc

        with grpc.insecure_channel(pod.address) as channel:
            stub = grpc_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ModelReady(grpc_inference_pb2.ModelReadyRequest(name="digits"), timeout=10).ready
    print("the container of KServe's ServingRuntime serves a plain graph", flush=True)


def main() -> None:
    # An end from outside cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = images.build()
    for name, size in sizes.items():
        images.inspect(name)
        print(f"image {name}: {size / 1e6:.1f} MB", flush=True)
    with tempfile.TemporaryDirectory() as stubs, Cluster(manifests.objects(manifests.render("cpu"))) as cluster:
        client.generate(pathlib.Path(stubs))
        check_ready(cluster.pods)
        for pod in cluster.pods:
            check_confined(pod)
        print(f"{len(cluster.pods)} pods are ready, and confined as the manifests say", flush=True)
        text = [pod for pod in cluster.pods if pod.component == "text"]
        haproxy = cluster.balancer("haproxy", images.BASE, ROOT / "deploy/balancing/haproxy/haproxy.cfg")
        nginx = cluster.balancer("nginx", images.BASE, ROOT / "deploy/balancing/nginx/nginx.conf")
        for name, address in (("haproxy", haproxy), ("nginx", nginx)):
            check_every_service(address)
            check_spread(address, text, f"{name} spreads calls")
        check_job(cluster)
        check_kserve(cluster)
        check_kill(haproxy, text[0], "haproxy, a replica is killed")
        check_kill(nginx, text[1], "nginx, a replica is killed")
        check_drain(haproxy, text[0], retries=False, what="haproxy, a replica drains")
        check_drain(nginx, text[1], retries=True, what="nginx, a replica drains")
        for pod in cluster.pods:
            if pod.process > 0:
                code = pod.terminate()
                assert code == 0, f"{pod.name} ended with {code}:\n{pod.log()[-2000:]}"
    print("the manifests of overlays/cpu were executed under podman")


if __name__ == "__main__":
    main()
