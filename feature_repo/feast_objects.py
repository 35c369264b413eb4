"""The objects that the plain `feast` command finds here: `cd feature_repo && feast apply`.

Belongs here: definitions.py's objects as module attributes, because that is how the command looks for them. Does not
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
_declared = declare(_settings)
carrier, route, aircraft, origin = _declared.entities.values()
carrier_source, route_source, aircraft_source, weather_source = _declared.sources.values()
origin_weather_push = _declared.pushed_weather
carrier_history, route_history, aircraft_history, origin_weather = _declared.views.values()
flight_calendar = _declared.calendar
arrival_delay_v1 = _declared.service
