"""A serving process on a free port, as tests start it."""

from __future__ import annotations

import pathlib
import subprocess
import threading
from types import TracebackType

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Lines of a log that are kept, for whoever reads a failure.
MOST_LOG = 1000


class Process:
    """A program that prints `… ready on HOST:PORT`. It has ended when the block that it serves ends."""

    def __init__(self, command: list[str | pathlib.Path]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._log: list[str] = []
        # Somebody must read the log from the start, or a full pipe would hold the process up.
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        line = self._process.stdout.readline()
        _, ready, address = line.strip().partition("ready on ")
        if not ready:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            raise SystemExit(f"{command[0]} did not start: {line}{self.log}")
        self.address = address

    def _read_log(self) -> None:
        for line in self._process.stderr:
            if len(self._log) < MOST_LOG:
                self._log.append(line)

    @property
    def log(self) -> str:
        """What it has said on standard error."""
        return "".join(self._log)

    def stop(self) -> None:
        """Asks it to end, and waits until it has."""
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def quintet(program: pathlib.Path, *arguments: str) -> Process:
    """A program of the workspace on a free port."""
    return Process([program, *arguments, "--listen", "127.0.0.1:0"])
