"""The command line, as processes and within this one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from runstream_sink.cli.app import run

__all__ = ["Result", "invoke", "invoke_json", "start", "start_process"]


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def invoke(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run a command of the sink's side in this process."""
    capsys.readouterr()
    try:
        code = run([str(argument) for argument in arguments])
    finally:
        structlog.reset_defaults()  # a command's log lines go to what stands for standard error now
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


def invoke_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON document that a command prints."""
    result = invoke(capsys, *arguments, "--json")
    assert result.code == code, result.err
    return json.loads(result.out)


def start_process(
    *arguments: object, module: str = "runstream.cli", cwd: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Begin ``runstream ARGUMENTS`` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start(*arguments: object, module: str = "runstream.cli", cwd: Path | None = None, **environment: str) -> Result:
    """Run ``runstream ARGUMENTS`` as a process, to its end."""
    process = start_process(*arguments, module=module, cwd=cwd, **environment)
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err)
