"""How the client of each language is built from the contracts, and how it is run.

Everything that is made lies under `.clients`, a folder for each language, and is made again only where what it is made
of has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "clients"
MADE = ROOT / ".clients"
CONTRACTS = ROOT / "proto"
SERVICES = ["anomaly", "evaluation", "image", "text", "tokenization"]
PROTOS = [f"quintet/{service}/v1/{service}.proto" for service in SERVICES]

# Python's environment, which also brings google/rpc/*.proto: what an error's details are made of.
VENV = MADE / "venv"
JARS = pathlib.Path("/usr/share/java")


@dataclasses.dataclass(frozen=True)
class Client:
    """A client, or several that are built together."""

    # The folder of its source, and of what is made from it.
    name: str
    # The Debian packages that it needs, each with a file that tells whether it is there.
    packages: dict[str, str]
    # Makes it in a folder that is its own and empty.
    build: Callable[[pathlib.Path], None]
    # By name: the command that runs it, without its arguments.
    commands: Callable[[pathlib.Path], dict[str, list[str]]]
    # Variables that it runs with.
    environment: Callable[[pathlib.Path], dict[str, str]] = lambda _: {}

    @property
    def folder(self) -> pathlib.Path:
        return MADE / self.name

    def ready(self) -> bool:
        """Builds it if anything has changed since it was built; whether something had."""
        stamp = self.folder / "made-of"
        wanted = fingerprint(CONTRACTS, SOURCES / self.name, SOURCES / "builds.py", SOURCES / "python" / "requirements.txt")
        if stamp.is_file() and stamp.read_text() == wanted:
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.build(self.folder)
        stamp.write_text(wanted)
        return True


def fingerprint(*paths: pathlib.Path) -> str:
    """A hash of files, and of all files in folders."""
    files = (file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]))
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def execute(*command: str | pathlib.Path, folder: pathlib.Path = ROOT, **environment: str) -> None:
    """Runs a command; what it says is shown only if it fails."""
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def make_venv() -> None:
    """Python's environment for its client and for the generators that come as Python packages."""
    wanted, made = SOURCES / "python" / "requirements.txt", VENV / "requirements.txt"
    if made.is_file() and made.read_bytes() == wanted.read_bytes():
        return
    execute(sys.executable, "-m", "venv", "--clear", VENV)
    execute(VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted)
    shutil.copy(wanted, made)


def google_rpc() -> pathlib.Path:
    """A folder with google/rpc/*.proto."""
    (folder,) = VENV.glob("lib/python3.*/site-packages/google/rpc")
    return folder.parents[1]


def build_python(folder: pathlib.Path) -> None:
    python = VENV / "bin" / "python"
    execute(python, "-m", "grpc_tools.protoc", f"-I{CONTRACTS}", f"--python_out={folder}", f"--grpc_python_out={folder}", *PROTOS)


def build_node(folder: pathlib.Path) -> None:
    shutil.copytree(SOURCES / "node", folder, dirs_exist_ok=True)
    shutil.copytree(CONTRACTS / "quintet", folder / "proto" / "quintet")
    rpc = folder / "proto" / "google" / "rpc"
    rpc.mkdir(parents=True)
    for name in ["status", "error_details"]:
        shutil.copy(google_rpc() / "google" / "rpc" / f"{name}.proto", rpc)
    execute("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    execute("npm", "run", "build", folder=folder)


def build_go(folder: pathlib.Path) -> None:
    # Debian's Go packages are found by path, as GOPATH has them: a project with modules has `go get` do this.
    source = folder / "src"
    (source / "client").mkdir(parents=True)
    shutil.copy(SOURCES / "go" / "client.go", source / "client")
    # The contracts name no Go package: each user has a place of their own for them.
    names = [f"M{proto}={pathlib.PurePosixPath(proto).parent};{service}v1" for service, proto in zip(SERVICES, PROTOS)]
    options = [f"--{generator}_opt={name}" for generator in ["go", "go-grpc"] for name in names]
    execute("protoc", f"-I{CONTRACTS}", f"--go_out={source}", f"--go-grpc_out={source}", *options, *PROTOS)
    environment = {"GO111MODULE": "off", "GOPATH": f"{folder}:/usr/share/gocode", "GOCACHE": str(MADE / "go-cache"), "GOFLAGS": ""}
    execute("go", "build", "-o", folder / "client", "./src/client", folder=folder, **environment)


def jars(*names: str) -> str:
    return ":".join(str(JARS / f"{name}.jar") for name in names)


GRPC_JAVA = jars(
    "grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-protobuf", "grpc-protobuf-lite", "grpc-stub", "protobuf", "guava",
    "netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler", "netty-resolver",
    "netty-tcnative", "netty-transport", "perfmark-api", "proto-google-common-protos",
)  # fmt: skip


def build_java(folder: pathlib.Path) -> None:
    source, classes = folder / "source", folder / "classes"
    source.mkdir()
    execute("protoc", f"-I{CONTRACTS}", f"--java_out={source}", f"--grpc-java_out={source}",
            "--plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin", *PROTOS)  # fmt: skip
    # ErrorInfo is younger than Debian's google-common-protos.
    execute("protoc", f"-I{google_rpc()}", f"--java_out={source}", "google/rpc/error_details.proto")
    path = f"{GRPC_JAVA}:{jars('geronimo-annotation-1.3-spec')}"
    files = [*sorted(source.rglob("*.java")), SOURCES / "java" / "Client.java"]
    # Netty asks for the library by another name than Debian's, and a link to it does not do.
    native = folder / "native"
    native.mkdir()
    (library,) = pathlib.Path("/usr/lib").glob("*/jni/libnetty-tcnative.so")
    shutil.copy(library, native / "libnetty_tcnative.so")
    execute("javac", "-nowarn", "-proc:none", "-encoding", "UTF-8", "-cp", path, "-d", classes, *files)


def build_cpp(folder: pathlib.Path) -> None:
    execute("cmake", "-S", SOURCES / "cpp", "-B", folder, f"-DGOOGLE_RPC={google_rpc()}")
    execute("cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1))


PROTOC = {"protobuf-compiler": "/usr/bin/protoc"}

CLIENTS = [
    Client(
        name="python",
        packages={},
        build=build_python,
        commands=lambda _: {"Python": [str(VENV / "bin" / "python"), str(SOURCES / "python" / "client.py")]},
        environment=lambda folder: {"PYTHONPATH": str(folder)},
    ),
    Client(
        name="node",
        packages={"nodejs": "/usr/bin/node", "npm": "/usr/bin/npm"},
        build=build_node,
        commands=lambda folder: {
            "Node, grpc-js": ["node", str(folder / "dist" / "grpc-js.js")],
            "Node, Connect": ["node", str(folder / "dist" / "connect.js")],
        },
    ),
    Client(
        name="go",
        packages=PROTOC
        | {
            "golang-go": "/usr/bin/go",
            "golang-google-grpc-dev": "/usr/share/gocode/src/google.golang.org/grpc",
            "golang-google-genproto-dev": "/usr/share/gocode/src/google.golang.org/genproto",
            "golang-google-protobuf-dev": "/usr/share/gocode/src/google.golang.org/protobuf",
            # The older 1.3 reads no messages of today's generator.
            "golang-github-golang-protobuf-1-5-dev": "/usr/share/doc/golang-github-golang-protobuf-1-5-dev",
            "protoc-gen-go": "/usr/bin/protoc-gen-go",
            "protoc-gen-go-grpc": "/usr/bin/protoc-gen-go-grpc",
        },
        build=build_go,
        commands=lambda folder: {"Go": [str(folder / "client")]},
    ),
    Client(
        name="java",
        packages=PROTOC
        | {
            "default-jdk-headless": "/usr/bin/javac",
            "libgrpc-java": str(JARS / "grpc-netty.jar"),
            "libprotobuf-java": str(JARS / "protobuf.jar"),
            "libguava-java": str(JARS / "guava.jar"),
            "libnetty-java": str(JARS / "netty-codec-http2.jar"),
            # Debian's Netty speaks HTTP/2 over TLS through OpenSSL alone.
            "libnetty-tcnative-java": str(JARS / "netty-tcnative.jar"),
            "libnetty-tcnative-jni": "/usr/share/doc/libnetty-tcnative-jni",
            "libperfmark-java": str(JARS / "perfmark-api.jar"),
            "libgoogle-common-protos-java": str(JARS / "proto-google-common-protos.jar"),
            "libgeronimo-annotation-1.3-spec-java": str(JARS / "geronimo-annotation-1.3-spec.jar"),
            "protobuf-compiler-grpc-java-plugin": "/usr/bin/grpc_java_plugin",
        },
        build=build_java,
        commands=lambda folder: {
            "Java": ["java", f"-Djava.library.path={folder / 'native'}", "-cp", f"{folder / 'classes'}:{GRPC_JAVA}", "Client"]
        },
    ),
    Client(
        name="cpp",
        packages=PROTOC
        | {
            "g++": "/usr/bin/g++",
            "cmake": "/usr/bin/cmake",
            "pkg-config": "/usr/bin/pkg-config",
            "libgrpc++-dev": "/usr/include/grpcpp/grpcpp.h",
            "libprotobuf-dev": "/usr/include/google/protobuf/message.h",
            "protobuf-compiler-grpc": "/usr/bin/grpc_cpp_plugin",
        },
        build=build_cpp,
        commands=lambda folder: {"C++": [str(folder / "client")]},
    ),
]


def install(clients: list[Client]) -> None:
    """Installs the Debian packages that are missing."""
    wanted = {package: file for client in clients for package, file in client.packages.items()}
    missing = sorted(package for package, file in wanted.items() if not pathlib.Path(file).exists())
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing: {' '.join(missing)}\non Debian 12: sudo {' '.join(command)}", file=sys.stderr)
        raise SystemExit(69)
    print(f"installing {' '.join(missing)}", flush=True)
    try:
        execute("apt-get", "update")
        execute(*command, DEBIAN_FRONTEND="noninteractive")
    except Exception as error:
        print(f"they cannot be installed: {error}", file=sys.stderr)
        raise SystemExit(69) from error
