"""What Feast is told: entity, source, feature view and service over Gold.

Belongs here: names, types, times to live, and which table each view reads. Does not belong here: opening a store
(configuration.py), or the numbers themselves (dbt). Everything is made per settings, because a branch reads its own tables.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from foundation.names import CATALOG
from foundation.settings import Settings

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView
    from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource

ENTITY = "carrier"
SERVICE = "arrival_delay_v1"
# The moment a history could be known, as the contracts define it: the event time of the view, and itself a feature, so
# that every reader can tell how old its features are (Feast returns no event time with historical features).
AVAILABLE_AT = "available_at"
# Feast's duckdb store drops every column whose name ends in `_y`: no feature may.
COUNTS = ("flights", "arrivals", "delayed", "flights_28d", "arrivals_28d")
RATES = ("delayed_share_28d", "mean_arrival_delay_28d")
# A history covers 28 days. Once it is older than that, no day it describes lies in the 28 days before the flight, so a
# null says more than the number does; below that, an outage of some days costs accuracy but not the prediction.
TIME_TO_LIVE = timedelta(days=28)


@dataclass(frozen=True)
class Declarations:
    """Feast's objects of one environment."""

    entity: "Entity"
    source: "IcebergSource"
    view: "FeatureView"
    service: "FeatureService"

    @property
    def objects(self) -> list[Any]:
        """All of them, in the order that `FeatureStore.apply` wants."""
        return [self.entity, self.source, self.view, self.service]


def declare(settings: Settings) -> Declarations:
    """Feast's objects for the tables of these settings.

    Args:
        settings: the environment that names the tables, and the catalog's address.
    """
    from feast import Entity, FeatureService, FeatureView, Field
    from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource
    from feast.types import Float64, Int64, String, UnixTimestamp
    from feast.value_type import ValueType

    gold = settings.table("gold", "carrier_history")
    properties = settings.iceberg_catalog_properties()
    entity = Entity(
        name=ENTITY, join_keys=[ENTITY], value_type=ValueType.STRING, description="An airline, by its IATA code"
    )
    source = IcebergSource(
        name=gold.in_catalog.replace(".", "_"),
        # Not "rest" nor "sql": any other word makes Feast hand these properties to PyIceberg unchanged, whatever `type`
        # they name. With "rest" it would use a small client of its own, which knows neither S3 settings nor PyIceberg's
        # environment variables, where credentials stay; what is given here is stored in the registry.
        catalog_type="pyiceberg",
        catalog_name=CATALOG,
        catalog_properties=properties,
        warehouse=properties["warehouse"],
        namespace=gold.schema,
        table=gold.table,
        timestamp_field=AVAILABLE_AT,
        description="How punctual each carrier was over the 28 days up to and including a day",
    )
    view = FeatureView(
        name="carrier_history",
        entities=[entity],
        ttl=TIME_TO_LIVE,
        schema=[
            Field(name=ENTITY, dtype=String),
            *(Field(name=name, dtype=Int64) for name in COUNTS),
            *(Field(name=name, dtype=Float64) for name in RATES),
            Field(name=AVAILABLE_AT, dtype=UnixTimestamp),
        ],
        source=source,
        online=True,
        description="A carrier's punctuality, known from 06:00 New York time of the day after",
    )
    service = FeatureService(name=SERVICE, features=[view], description="What models/arrival_delay asks for")
    return Declarations(entity, source, view, service)
