"""A broker on this machine for trying things out, as the tests start it: `python -m support.kafka_local [PORT]`.

It runs until Ctrl-C or SIGTERM.  What it holds stays in the cache, for each port its own.
"""

import signal
import socket
import sys
from typing import NoReturn

from support.components import KAFKA, cache
from support.kafka import KafkaCluster

__all__ = ["main"]


def main(port: int = 9092) -> None:
    """Serve at `port`, with the controller at the next one."""
    for wanted in (port, port + 1):
        _refuse_a_taken(wanted)
    if not (cache() / KAFKA).is_dir():
        sys.exit("no broker is installed: `.ci/install-components kafka` says what is missing")
    signal.signal(signal.SIGTERM, _stop)
    cluster = KafkaCluster(cache() / f"kafka-data-{port}", ports=(port, port + 1))
    try:
        cluster.start()
        print(f"A broker serves at {cluster.servers()} until Ctrl-C; its data are in {cluster.directory}")
        print(f"export RUNSTREAM_STREAM={cluster.stream('runstream')}", flush=True)
        cluster.nodes[1].wait()
        cluster.check()
    except KeyboardInterrupt:
        print()
    finally:
        cluster.terminate()


def _refuse_a_taken(port: int) -> None:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"port {port} cannot be used ({error.strerror}): choose another one by `make kafka PORT=...`")


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
