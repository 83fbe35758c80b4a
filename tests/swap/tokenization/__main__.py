"""Serves the tokenizers of a model repository.

    python -m tokenization --models deploy/models --listen 127.0.0.1:50061

It prints `… ready on HOST:PORT` when every tokenizer is loaded. SIGTERM lets calls in progress finish.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import signal

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from quintet.tokenization.v1 import tokenization_pb2, tokenization_pb2_grpc

from .catalog import Catalog
from .limits import MAX_CALLS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from .service import TokenizationService
from .undecodable import Undecodable

NAME = tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"].full_name

# Seconds that calls in progress have after SIGTERM.
DRAIN = 30


async def serve(models: pathlib.Path, listen: str) -> None:
    # Ready means loaded: nothing listens before.
    service = TokenizationService(Catalog(models))
    options = [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
        # A port that another program has is an error, not to be shared.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(interceptors=[Undecodable(NAME)], options=options, maximum_concurrent_rpcs=MAX_CALLS)
    tokenization_pb2_grpc.add_TokenizationServiceServicer_to_server(service, server)
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection([NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port(listen)
    await server.start()
    for name in ["", NAME]:
        await healths.set(name, health_pb2.HealthCheckResponse.SERVING)

    ended = asyncio.Event()
    for number in [signal.SIGTERM, signal.SIGINT]:
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    print(f"tokenization ready on {listen.rpartition(':')[0]}:{port}", flush=True)
    await ended.wait()
    await healths.enter_graceful_shutdown()
    await server.stop(DRAIN)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=pathlib.Path, required=True, help="the model repository")
    arguments.add_argument("--listen", default="127.0.0.1:50061", help="where to listen; port 0 takes a free one")
    options = arguments.parse_args()
    asyncio.run(serve(options.models, options.listen))


if __name__ == "__main__":
    main()
