"""An LLM server in asyncio that logs each request as a run of its own: 1,000 requests at the same time.

    python examples/asyncio_serving.py [REQUESTS]
    runstream sink --once
    runstream runs list

The active run is kept in a context variable, so the tasks do not see each other's runs.  A log call makes no system
call and never waits, so it may stand in a coroutine as it is: no thread, no queue, no ``await``.
"""

import asyncio
import random
import sys
import time

import runstream


async def generate(prompt: str) -> list[str]:
    """Stands for a model: tokens that come after a while."""
    await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - a made-up latency
    return prompt.upper().split()


async def handle(number: int) -> float:
    """Serve one request.  Returns the seconds that its logging took."""
    prompt = f"request {number} asks for an answer"
    logging = -time.perf_counter()
    with runstream.start_run(run_name=f"request-{number}"):
        runstream.log_params({"model": "upper", "max_tokens": 64})
        logging += time.perf_counter()

        started = time.perf_counter()
        tokens = await generate(prompt)
        latency = time.perf_counter() - started

        logging -= time.perf_counter()
        runstream.log_metrics({"latency_ms": latency * 1e3, "completion_tokens": len(tokens)})
        runstream.log_prediction({"prompt": prompt, "output": " ".join(tokens)}, table="requests")
    return logging + time.perf_counter()


async def main(requests: int) -> None:
    """Serve all requests at once, then wait until what was logged is on the disk."""
    runstream.set_experiment("serving")
    started = time.perf_counter()
    spent = await asyncio.gather(*(handle(number) for number in range(requests)))
    elapsed = time.perf_counter() - started
    synced = await runstream.aflush(timeout=10)
    stats = runstream.stats()
    print(f"{requests} requests in {elapsed:.2f} s; logging took {sum(spent) / requests * 1e6:.0f} µs a request")
    print(f"{stats['accepted']} events accepted, {sum(stats['dropped'].values())} dropped, all on the disk: {synced}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
