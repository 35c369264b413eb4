"""What a dbt call reads from its environment: addresses, whose schemas it writes, which state of the lake it reads.

Belongs here: the variables of dbt_project and their values, for the platform's calls and for a person's. Does not belong
here: starting dbt, Dagster (a person's dbt answers in seconds: importing Dagster takes as long).

    ASSAY_DBT_PREFIX        what every schema that this call writes begins with
    ASSAY_SOURCE_PREFIX     what the schemas of Silver and Bronze begin with
    ASSAY_WRITES_SHARED     1: it may write the shared tables (macros/guard.sql)
    ASSAY_DBT_USER          who it is to Trino
    ASSAY_SNAPSHOTS         the snapshot at which each source is read on Trino (macros/source.sql)
    ASSAY_LAKE_PINS         the metadata file that each view on the lake shows in ClickHouse (macros/lake_views.sql)
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from deploy.embedded import analysts
from deploy.embedded.environment import exports
from foundation.lake import PUBLISHED, Pin, pin_published
from foundation.names import schema_prefix
from foundation.settings import Settings
from orchestrator.manifests import TARGETS, manifest_dir, shared_state_dir

# What dbt on Trino reads as a source.
SOURCES = ("bronze", "silver")


def dbt_environment(settings: Settings) -> dict[str, str]:
    """For one call that writes the tables of these settings' environment, on either engine."""
    return {**shared_environment(settings), **pins_now(settings)}


def shared_environment(settings: Settings) -> dict[str, str]:
    """The same without the state of the lake, which each of several calls asks for anew."""
    return {**exports(settings), **_clock(settings), "ASSAY_WRITES_SHARED": "1"}


def pins_now(settings: Settings) -> dict[str, str]:
    """The lake of these settings' environment as it is now. To be asked again after a call on Trino: ClickHouse must see
    what that built, and the files of what it replaced are gone."""
    pins = pin_published(settings, (*PUBLISHED, "bronze"))
    return {
        "ASSAY_LAKE_PINS": lake_pins([pin for pin in pins if pin.layer in PUBLISHED]),
        "ASSAY_SNAPSHOTS": snapshots(pins),
    }


def own_environment(settings: Settings) -> dict[str, str]:
    """For a person's call: it writes their own schemas, and reads what they have not built from the shared ones.

    Raises:
        AssayError: the shared environment was never set up, so that there is nothing to read.
    """
    shared_state_dir(settings)
    return {**exports(settings), **_clock(settings), **exports_for_people(settings), "ASSAY_WRITES_SHARED": ""}


def exports_for_people(settings: Settings) -> dict[str, str]:
    """What plain dbt in a person's shell has otherwise than the platform. Everything else in that shell, Dagster's runs
    included, stays where it is."""
    own = settings.analyst
    if own == settings.environment:
        return {}
    user = settings.trino_user
    if not settings.is_external("trino"):
        analysts.admit(settings, own)
        user = analysts.trino_user(own)
    # Without manifests there is nothing to defer to: `./assay env` serves before the first `up` is done, too.
    built = all((manifest_dir(settings, target) / "manifest.json").exists() for target in TARGETS)
    defer = {"DBT_DEFER": "true", "DBT_DEFER_STATE": str(shared_state_dir(settings))} if built else {}
    return {"ASSAY_DBT_PREFIX": schema_prefix(own), "ASSAY_DBT_USER": user, **defer}


def own_pins(settings: Settings, target: str) -> dict[str, str]:
    """The state of the lake that a person's call reads on an engine: their own Gold where they have built it."""
    if target == "trino":
        return {"ASSAY_SNAPSHOTS": snapshots(pin_published(settings, SOURCES))}
    own = settings.model_copy(update={"environment": settings.analyst})
    shared = {pin.view: pin for pin in pin_published(settings)}
    return {
        "ASSAY_LAKE_PINS": lake_pins((shared | {pin.view: pin for pin in pin_published(own, ("gold",))}).values()),
    }


def _clock(settings: Settings) -> dict[str, str]:
    """The home's clock, for the freshness of sources: dbt cannot read the home's settings.env."""
    return {"ASSAY_NOW": settings.now.isoformat()} if settings.now else {}


def lake_pins(pins: Iterable[Pin]) -> str:
    """The pins as macros/lake_views.sql reads them."""
    return json.dumps({pin.view: {"uri": pin.uri, "metadata": pin.metadata} for pin in pins})


def snapshots(pins: Iterable[Pin]) -> str:
    """The pins as macros/source.sql reads them."""
    return json.dumps({f"{pin.layer}.{pin.table}": pin.snapshot_id for pin in pins})


@contextmanager
def environment_of(variables: Mapping[str, str], without: Iterable[str] = ()) -> Iterator[None]:
    """These variables for a while, for dbt in this process or one started within, which take them from nowhere else.

    Args:
        without: names that are not set for that while.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
