"""Log what an LLM program does, without making it wait: ``import runstream as mlflow`` works.

Every call leaves a typed event in this process's journal and returns after microseconds; a sink service, its own
process, makes experiments, runs, CSV tables and artifacts of them.
"""

from runstream.fluent import *  # noqa: F403 - the public functions, listed in fluent.__all__
from runstream.fluent import __all__ as _functions
from runstream.reading import *  # noqa: F403 - likewise, listed in reading.__all__
from runstream.reading import __all__ as _reading
from runstream.run import Run

__version__ = "0.1.0"

__all__ = [*_functions, *_reading, "Run", "__version__"]  # noqa: PLE0604 - all of them are str
