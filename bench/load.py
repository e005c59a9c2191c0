"""HTTP load: N connections, each of which sends its next request when it has its answer.

Uses ``wrk`` where it is installed, else a process of its own in asyncio, which needs more of the CPU itself.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Load", "load", "tool"]

PATH = "/v1/chat/completions"
_SCRIPT = """
local bodies = {%s}
local number = 0
wrk.method = "POST"
function request()
    number = number + 1
    return wrk.format(nil, nil, nil, bodies[number %% #bodies + 1])
end
function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "failed": %%d, "p50": %%f, "p99": %%f}\\n',
        summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Load(NamedTuple):
    """What a load met with; latencies in milliseconds."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float


def tool() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "an asyncio process"


def load(port: int, bodies: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Post the bodies in turn for some seconds (whole ones, with wrk)."""
    with tempfile.TemporaryDirectory() as directory:
        if shutil.which("wrk"):
            script = Path(directory, "post.lua")
            script.write_text(_SCRIPT % ", ".join(json.dumps(body.decode("ascii")) for body in bodies))
            connected = ("-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s")
            command = ["wrk", *connected, "-s", str(script), f"http://127.0.0.1:{port}{PATH}"]
        else:
            file = Path(directory, "bodies.json")
            file.write_text(json.dumps([body.decode("ascii") for body in bodies]))
            command = [sys.executable, __file__, str(port), str(file), str(connections), str(seconds)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Load(**json.loads(done.stdout.rstrip().rpartition("\n")[2]))


class _Connection:
    """One connection, of HTTP/1.1, to a server that says how long its answers are or sends them in chunks."""

    def __init__(self, port: int, requests: "cycle[bytes]", deadline: float) -> None:
        self._port, self._requests, self._deadline = port, requests, deadline
        self.latencies: list[float] = []
        self.failed = 0

    async def run(self) -> None:
        """Ask until the deadline."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while time.perf_counter() < self._deadline:
            began = time.perf_counter()
            writer.write(next(self._requests))
            head = await reader.readuntil(b"\r\n\r\n")
            await _skip_body(reader, head)
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self.latencies.append((time.perf_counter() - began) * 1e3)
        writer.close()


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    if b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
        return
    size = 1
    while size:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + 2)


async def _run(port: int, bodies: Sequence[bytes], connections: int, seconds: float) -> dict[str, Any]:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: "
    requests = cycle([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies])
    began = time.perf_counter()
    all_of_them = [_Connection(port, requests, began + seconds) for _ in range(connections)]
    await asyncio.gather(*(one.run() for one in all_of_them))
    elapsed = time.perf_counter() - began
    latencies = sorted(latency for one in all_of_them for latency in one.latencies)
    p50, p99 = (latencies[int((len(latencies) - 1) * share)] for share in (0.5, 0.99))
    failed = sum(one.failed for one in all_of_them)
    return {"requests": len(latencies), "seconds": elapsed, "failed": failed, "p50": p50, "p99": p99}


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=Path)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    bodies = [body.encode() for body in json.loads(options.bodies.read_text())]
    print(json.dumps(asyncio.run(_run(options.port, bodies, options.connections, options.seconds))))


if __name__ == "__main__":
    _main()
