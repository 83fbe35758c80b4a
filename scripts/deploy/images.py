"""Builds the images with buildah, from programs that are built already, and looks at what is in them."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# podman's and buildah's runtime: see the file.
RUNTIME = str(ROOT / "scripts/deploy/runc")
OUT = ROOT / "out/deploy"
BASE = "localhost/quintet-debian:bookworm"
REGISTRY, TAG = "registry.example", "0.1.0"
SERVICES = ("tokenization", "text", "image", "anomaly", "evaluation")
# Of one service's image, without models.
MOST_BYTES = 80_000_000
# What the images are made from, and the balancers that stand before the services.
PACKAGES = "ca-certificates,libstdc++6,busybox-static,nginx-light,haproxy"


def run(*command: str, **options) -> str:
    """A command's output; what it said where it fails."""
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def podman(*arguments: str) -> str:
    return run("podman", "--runtime", RUNTIME, *arguments)


def exists(image: str) -> bool:
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def make_base() -> None:
    """Debian as a base image, from Debian's own packages: no registry of images is asked."""
    if exists(BASE):
        return
    folder = OUT / "debian"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder))
    run("sh", "-c", f"tar -C {folder} -c . | podman import - {BASE}")
    shutil.rmtree(folder)


def stage_programs() -> pathlib.Path:
    """The programs of the last release build, stripped, each with what it is made of."""
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release")
    folder = OUT / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("quintet", *(f"quintet-{service}" for service in SERVICES)):
        source, target = built / name, folder / name
        if not source.is_file():
            raise SystemExit(f"{source} is not there: cargo build --release --locked --workspace")
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            run("strip", "--strip-all", "-o", str(target), str(source))
            (folder / f"{name}.spdx.json").write_text(run("deploy/image/sbom", name))
    return folder


def build() -> dict[str, int]:
    """All images; the size in bytes of each."""
    make_base()
    programs = stage_programs()
    # A build context is copied as it is, links as links: the library's own folder.
    library = (ROOT / ".runtime/onnxruntime").resolve()
    revision = run("git", "rev-parse", "HEAD").strip()
    common = ["buildah", "--runtime", RUNTIME, "bud", "--quiet", "--layers", "--format", "docker", "--build-arg", f"DEBIAN={BASE}"]
    contexts = [f"--build-context=programs={programs}", f"--build-context=runtime={library}"]
    sizes = {}
    for name in ("quintet-models", "quintet", *(f"quintet-{service}" for service in SERVICES)):
        tag = f"{REGISTRY}/{name}:{TAG}"
        if name == "quintet-models":
            run(*common, "-f", "deploy/image/models.Containerfile", "-t", tag, ".")
        else:
            named = ["--build-arg", f"PROGRAM={name}", "--build-arg", f"REVISION={revision}"]
            run(*common, *named, *contexts, "-f", "deploy/image/Containerfile", "-t", tag, ".")
        sizes[name] = int(run("podman", "image", "inspect", "--format", "{{.Size}}", tag))
    for service in SERVICES:
        size = sizes[f"quintet-{service}"]
        assert size <= MOST_BYTES, f"the image of {service} has {size} bytes; at most {MOST_BYTES}"
    return sizes


def inspect(name: str) -> None:
    """No shell, nothing that gains rights, no root, and the list of what it is made of."""
    tag = f"{REGISTRY}/{name}:{TAG}"
    assert run("podman", "image", "inspect", "--format", "{{.User}}", tag).strip() == "65532:65532"
    folder = pathlib.Path(run("podman", "image", "mount", tag).strip())
    try:
        programs = []
        for path in folder.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                assert not mode & (stat.S_ISUID | stat.S_ISGID), f"{path} gains rights"
                if mode & 0o111 and ".so" not in path.name:
                    programs.append(path.relative_to(folder).as_posix())
        expected = ["bin/cp"] if name == "quintet-models" else ["usr/lib/quintet/program"]
        assert programs == expected, f"programs in {tag}: {programs}"
        assert name == "quintet-models" or (folder / f"usr/share/sbom/{name}.spdx.json").stat().st_size > 10_000
    finally:
        run("podman", "image", "unmount", tag)
