"""Files of a home that only their owner may read.

Belongs here: writing them whole or not at all. Does not belong here: what they say.
"""

import os
from pathlib import Path


def write_private(file: Path, text: str) -> None:
    """Writes a file that only its owner can read, also while it is being written; replaces it at once."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    fresh.replace(file)
