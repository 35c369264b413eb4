"""A feature view over a table of Gold: what it is, and what Feast is told of it.

Belongs here: what every view has in common, and reading those that are declared in a file of views/. Does not belong here:
which views there are besides (definitions.py), opening a store (configuration.py).
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from foundation.errors import AssayError
from foundation.settings import Settings

if TYPE_CHECKING:
    from feast import Entity, FeatureView, PushSource
    from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource

# The moment a row could be known, as the contracts define it: the event time of each view, and itself a feature, so that
# every reader can tell how old its features are (Feast returns no event time with historical features).
AVAILABLE_AT = "available_at"
FOLDER = Path(__file__).with_name("views")
FIELDS = {"entity", "key", "day", "lives_days", "counts", "numbers", "description", "owner"}


@dataclass(frozen=True)
class View:
    """A feature view over the table of Gold with its name.

    Args:
        name: of view, table and asset.
        entity: what a row is about.
        key: the column that names it.
        day: the column that says of which day a row is; its partitions.
        lives: how long after `available_at` a row may be used.
        counts, numbers: its features, integers and floats.
        served: those of them that a service asks for, besides `available_at`.
        owner: the team that answers for it.
    """

    name: str
    entity: str
    key: str
    day: str
    lives: timedelta
    counts: tuple[str, ...]
    numbers: tuple[str, ...]
    served: tuple[str, ...]
    description: str
    owner: str


def views_of_files(folder: Path = FOLDER) -> dict[str, View]:
    """The views of `<folder>/<name>.yml`, by name; all their features are served.

    Raises:
        AssayError: a file lacks a field, or has one that means nothing.
    """
    views: dict[str, View] = {}
    for file in sorted(folder.glob("*.yml")):
        said: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        wrong = FIELDS ^ set(said if isinstance(said, dict) else {})
        if wrong:
            raise AssayError(
                f"feature_repo/views/{file.name} lacks, or has without a meaning: {', '.join(sorted(map(str, wrong)))}",
                f"write {', '.join(sorted(FIELDS))}, and nothing else",
            )
        counts, numbers = tuple(said["counts"]), tuple(said["numbers"])
        lives = timedelta(days=said["lives_days"])
        views[file.stem] = View(
            name=file.stem,
            entity=said["entity"],
            key=said["key"],
            day=said["day"],
            lives=lives,
            counts=counts,
            numbers=numbers,
            served=(*counts, *numbers),
            description=said["description"],
            owner=said["owner"],
        )
    return views


def entity_of(view: View, description: str) -> "Entity":
    """What a view's rows are about."""
    from feast import Entity
    from feast.value_type import ValueType

    return Entity(
        name=view.entity, join_keys=[view.key], value_type=ValueType.STRING, description=description, owner=view.owner
    )


def source_of(settings: Settings, view: View) -> "IcebergSource":
    """The table of Gold, as Feast reads it."""
    from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource

    gold = settings.table("gold", view.name)
    properties = settings.iceberg_catalog_properties()
    return IcebergSource(
        name=gold.in_catalog.replace(".", "_"),
        # Not "rest" nor "sql": any other word makes Feast hand these properties to PyIceberg unchanged, whatever `type`
        # they name. With "rest" it would use a small client of its own, which knows neither S3 settings nor PyIceberg's
        # environment variables, where credentials stay; what is given here is stored in the registry.
        catalog_type="pyiceberg",
        catalog_name=settings.catalog,
        catalog_properties=properties,
        warehouse=properties["warehouse"],
        namespace=gold.schema,
        table=gold.table,
        timestamp_field=AVAILABLE_AT,
        description=view.description,
        owner=view.owner,
    )


def feast_view(view: View, entity: "Entity", source: "IcebergSource | PushSource") -> "FeatureView":
    """The view, over the table or what is pushed ahead of it."""
    from feast import FeatureView
    from feast.field import Field
    from feast.types import Float64, Int64, String, UnixTimestamp

    return FeatureView(
        name=view.name,
        entities=[entity],
        ttl=view.lives,
        schema=[
            Field(name=view.key, dtype=String),
            *(Field(name=name, dtype=Int64) for name in view.counts),
            *(Field(name=name, dtype=Float64) for name in view.numbers),
            Field(name=AVAILABLE_AT, dtype=UnixTimestamp),
        ],
        source=source,
        online=True,
        description=view.description,
        owner=view.owner,
    )
