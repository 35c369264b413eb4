"""`python -m orchestrator.cli`: runs a command, and turns an AssayError into two lines and exit code 1."""

import sys

from orchestrator.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
