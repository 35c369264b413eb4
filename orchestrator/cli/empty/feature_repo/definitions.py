"""What Feast is told: a view and a source for each file of views/, and the entities that they are about.

Belongs here: services, and views that a file cannot declare. Does not belong here: what every view has in common (views.py),
opening a store (configuration.py).
"""

from dataclasses import dataclass
from typing import Any

from feature_repo.views import entity_of, feast_view, source_of, views_of_files
from foundation.settings import Settings

ALL_VIEWS = views_of_files()


@dataclass(frozen=True)
class Declarations:
    """Feast's objects of one environment, in the order that `FeatureStore.apply` wants."""

    objects: list[Any]


def declare(settings: Settings) -> Declarations:
    """Feast's objects for the tables of these settings."""
    entities = {view.entity: entity_of(view, view.entity) for view in ALL_VIEWS.values()}
    sources = {name: source_of(settings, view) for name, view in ALL_VIEWS.items()}
    views = [feast_view(view, entities[view.entity], sources[name]) for name, view in ALL_VIEWS.items()]
    return Declarations([*entities.values(), *sources.values(), *views])
