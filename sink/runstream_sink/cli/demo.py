"""``runstream demo``: runs the example batch inference, which lies beside the packages or in the installed wheel."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import typer

import runstream_sink
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["demo", "find_example"]

_NAME: Final = "batch_inference.py"


def demo(context: typer.Context) -> int:
    """Run the example batch inference from end to end.

    Further arguments go to the example; `runstream demo -- --help` lists them.
    """
    example = find_example(Path(runstream_sink.__file__).parent)
    return subprocess.run([sys.executable, str(example), *context.args], check=False).returncode  # noqa: S603


def find_example(package: Path) -> Path:
    """The example that belongs to the package in this directory."""
    places = (package / "examples" / _NAME, package.parent.parent / "examples" / _NAME)
    for place in places:
        if place.is_file():
            return place
    raise EnvironmentUnavailableError(f"the example is neither {places[0]} nor {places[1]}; install runstream again")
