"""``python -m runstream_sink.cli COMMAND ...``: the same without the script."""

import sys

from runstream_sink.cli import main

sys.exit(main(sys.argv[1:]))
