"""The objects that the plain `feast` command finds here: `cd feature_repo && feast apply`.

Belongs here: what definitions.py declares as module attributes, because that is how the command looks for objects. Does not
belong here: anything else; platform code never imports this module.
"""

import sys
from pathlib import Path

# The feast command puts only its own folder on the path, and the platform is not an installed package.
PROJECT = str(Path(__file__).resolve().parents[1])
if PROJECT not in sys.path:
    sys.path.append(PROJECT)

from feature_repo.configuration import prepare_folders  # noqa: E402
from feature_repo.definitions import declare  # noqa: E402
from foundation.settings import load  # noqa: E402

_settings = load()
prepare_folders(_settings)
for _one in declare(_settings).objects:
    globals()[f"{_one.name}_{type(_one).__name__}"] = _one
