"""What Feast is told: entities, sources, feature views and the service over Gold.

Belongs here: names, types, times to live, and which table each view reads. Does not belong here: opening a store
(configuration.py), or the numbers themselves (dbt). Everything is made per settings, because a branch reads its own tables.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feature_repo.views import AVAILABLE_AT, View, entity_of, feast_view, source_of, views_of_files
from foundation.settings import Settings

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, PushSource
    from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource

# Named with its version: a model says which service it was fitted on, and another set of features is another service.
SERVICE = "arrival_delay_v1"
CALENDAR = "flight_calendar"
PUSHED_WEATHER = "origin_weather_push"
OWNER = "team:machine-learning"
# A history covers 28 days. Once it is older than that, no day it describes lies in the 28 days before the flight, so a
# null says more than the number does; below that, an outage of some days costs accuracy but not the prediction.
HISTORY_LIVES = timedelta(days=28)
# Older weather says nothing about the departure; gold/flight_facts draws the same line.
WEATHER_LIVES = timedelta(hours=6)

COUNTS = ("flights", "arrivals", "delayed", "flights_28d", "arrivals_28d")
RATES = ("delayed_share", "delayed_share_28d", "mean_arrival_delay_28d")
MEASURED = ("temp", "humid", "wind_speed", "wind_gust", "precip", "visib", "pressure")


def _history(name: str, entity: str, key: str, description: str) -> View:
    return View(name, entity, key, "flight_date", HISTORY_LIVES, COUNTS, RATES, RATES, description, OWNER)


VIEWS = {
    view.name: view
    for view in (
        _history("carrier_history", "carrier", "carrier", "A carrier's punctuality over the 28 days up to a day"),
        _history("route_history", "route", "route", "A route's punctuality over the 28 days up to a day"),
        _history("aircraft_history", "aircraft", "tailnum", "An aircraft's punctuality over the 28 days up to a day"),
        View(
            "origin_weather",
            "origin",
            "origin",
            "observation_date",
            WEATHER_LIVES,
            (),
            MEASURED,
            MEASURED,
            "The weather of an airport's hour, known when the hour is over",
            OWNER,
        ),
    )
}
# With those that `./assay new feature` declares in views/, which the service does not ask for.
ALL_VIEWS = {**VIEWS, **views_of_files()}
KEYS = tuple(view.key for view in VIEWS.values())
ENTITIES = {
    "carrier": "An airline, by its IATA code",
    "route": "Two airports in the order of the flight, by their IATA codes: JFK-LAX",
    "aircraft": "An aircraft, by its registration",
    "origin": "An airport of departure, by its IATA code",
}
# What a request brings along for the calendar, and what comes of it.
CALENDAR_INPUT = ("flight_date", "sched_dep_time", "sched_arr_time")
CALENDAR_MADE_OF = {"departure_minute": "sched_dep_time", "arrival_minute": "sched_arr_time", "weekday": "flight_date"}
CALENDAR_FEATURES = tuple(CALENDAR_MADE_OF)


def served_features() -> list[str]:
    """Every feature of the service by its full name, `<view>__<feature>`."""
    of_views = [f"{view.name}__{name}" for view in VIEWS.values() for name in (*view.served, AVAILABLE_AT)]
    return [*of_views, *(f"{CALENDAR}__{name}" for name in CALENDAR_FEATURES)]


@dataclass(frozen=True)
class Declarations:
    """Feast's objects of one environment, the views and what they need by name."""

    entities: "dict[str, Entity]"
    sources: "dict[str, IcebergSource]"
    pushed_weather: "PushSource"
    views: "dict[str, FeatureView]"
    calendar: "OnDemandFeatureView"
    service: "FeatureService"

    @property
    def objects(self) -> list[Any]:
        """All of them, in the order that `FeatureStore.apply` wants."""
        return [
            *self.entities.values(),
            *self.sources.values(),
            self.pushed_weather,
            *self.views.values(),
            self.calendar,
            self.service,
        ]


def declare(settings: Settings) -> Declarations:
    """Feast's objects for the tables of these settings.

    Args:
        settings: the environment that names the tables, and the catalog's address.
    """
    from feast import FeatureService, PushSource

    # The service's own come last: where a file names one of its entities, it means that.
    of_views = [*(view for name, view in ALL_VIEWS.items() if name not in VIEWS), *VIEWS.values()]
    entities = {view.entity: entity_of(view, ENTITIES.get(view.entity, view.entity)) for view in of_views}
    sources = {name: source_of(settings, view) for name, view in ALL_VIEWS.items()}
    pushed_weather = PushSource(
        name=PUSHED_WEATHER,
        batch_source=sources["origin_weather"],
        description="Weather that a station sends by the minute, ahead of Gold",
        owner=OWNER,
    )
    inputs = {name: source if name != "origin_weather" else pushed_weather for name, source in sources.items()}
    views = {name: feast_view(view, entities[view.entity], inputs[name]) for name, view in ALL_VIEWS.items()}
    calendar = _calendar()
    asked = [views[view.name][[*view.served, AVAILABLE_AT]] for view in VIEWS.values()]
    service = FeatureService(
        name=SERVICE,
        features=[*asked, calendar],  # pyright: ignore[reportArgumentType] -- a choice of features is typed as optional
        description="What models/arrival_delay asks for",
        owner=OWNER,
    )
    return Declarations(entities, sources, pushed_weather, views, calendar, service)


def _calendar() -> Any:
    import pandas as pd
    from feast import RequestSource
    from feast.field import Field
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64, Int64, String

    request = RequestSource(
        name="flight",
        schema=[
            Field(name="flight_date", dtype=String),
            Field(name="sched_dep_time", dtype=Int64),
            Field(name="sched_arr_time", dtype=Int64),
        ],
        description="What the schedule says of a flight",
        owner=OWNER,
    )

    # Feast keeps this function in its registry, apart from this module: it may use nothing but what it imports itself.
    def flight_calendar(inputs: pd.DataFrame) -> pd.DataFrame:
        """Minutes since local midnight of hhmm numbers such as 1745 (the vendor's 2400 becomes 1440), and the weekday."""
        import pandas as pd

        # Arrays, not columns one by one: serving asks for one flight at a time.
        departs, arrives = (inputs[name].to_numpy("float64") for name in ("sched_dep_time", "sched_arr_time"))
        # Feast tries the function on samples of its own, of which the date is no date.
        day = pd.to_datetime(inputs["flight_date"], format="ISO8601", errors="coerce")
        minutes = {
            "departure_minute": departs // 100 * 60 + departs % 100,
            "arrival_minute": arrives // 100 * 60 + arrives % 100,
        }
        return pd.DataFrame({**minutes, "weekday": day.dt.weekday.to_numpy("float64")}, index=inputs.index)

    return on_demand_feature_view(
        name=CALENDAR,
        sources=[request],
        schema=[Field(name=name, dtype=Float64) for name in CALENDAR_FEATURES],
        mode="pandas",
        description="The times of the schedule in minutes since local midnight, and the weekday, Monday as 0",
        owner=OWNER,
    )(flight_calendar)
