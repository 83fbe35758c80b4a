"""Triton's own Python client, unmodified, against the real process: every rpc of the Open Inference Protocol.

    quintet up --set models.control=explicit --set models.path=FOLDER
    python tests/python/triton.py --address 127.0.0.1:50051 --repository FOLDER

The checks write small graphs into FOLDER and have them loaded; what they expect is known from how the graphs were made. The
server must run on this machine, since memory is shared with it, and for these checks alone.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
import traceback

import tritonclient.grpc

from triton import describing, inferring, managing, sharing, streaming
from triton.calls import Server

AREAS = (describing, inferring, streaming, managing, sharing)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--address", required=True)
    arguments.add_argument("--repository", type=pathlib.Path, required=True, help="the server's folder of models")
    arguments.add_argument("--only", default="", help="only checks with this in their names")
    options = arguments.parse_args()
    failed = []
    for check in (check for area in AREAS for check in area.CHECKS if options.only in check.__name__):
        begun = time.monotonic()
        # A connection each: what one check does to its own, no other sees.
        with tritonclient.grpc.InferenceServerClient(options.address) as client:
            try:
                check(Server(options.address, options.repository.resolve(), client))
                print(f"{check.__name__}: ok, {time.monotonic() - begun:.1f} s", flush=True)
            except Exception:  # noqa: BLE001
                failed.append(check.__name__)
                print(f"{check.__name__}: FAILED\n{traceback.format_exc()}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")
    print("all of it works")


if __name__ == "__main__":
    main()
