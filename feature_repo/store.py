"""What is done with the feature store whatever its views are: apply, materialize, compare online with Gold.

Belongs here: the guards around Feast's behaviour. Does not belong here: how the store is opened (configuration.py), which
features exist (definitions.py), reading them for a model, or when any of this runs.
"""

import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from feature_repo.configuration import open_store
from feature_repo.definitions import ALL_VIEWS, declare
from feature_repo.views import AVAILABLE_AT, View
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.lock import writer_lock
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore
    from pyiceberg.table import Table

# Gold is rewritten once per run at most; tables that move under three reads in a row are being rewritten in a loop.
READS_BEFORE_GIVING_UP = 3


class Materialization(TypedDict):
    """What a materialization did, for a run's metadata."""

    rows_by_day: dict[date, int]
    keys_written: int
    window_start: datetime
    window_end: datetime
    snapshot_id: int


def apply(settings: Settings) -> "FeatureStore":
    """Writes the declarations to the registry: an upsert, some 20 ms when nothing changed.

    Returns:
        The store, ready to be asked.

    Raises:
        AssayError: the registry or the online store, where each view has a table, could not be written.
    """
    from sqlite3 import OperationalError as OnlineStoreError

    from sqlalchemy.exc import OperationalError as RegistryError

    try:
        with writer_lock(settings, "feast.registry"):
            store = open_store(settings)
            objects = declare(settings).objects
            with warnings.catch_warnings():  # after Feast's import, which puts filters of its own in front
                # Feast calls on-demand views experimental. Ours is three columns of arithmetic.
                warnings.filterwarnings("ignore", message="On demand feature view is an experimental feature")
                store.apply(objects)
    except RegistryError as error:
        raise AssayError(
            f"Feast's registry cannot be written: {error.orig}",
            "end what holds it, or mend its address, ASSAY_FEAST_REGISTRY; then run this again",
        ) from error
    except OnlineStoreError as error:
        raise _online_store_failed(settings, error) from error
    return store


def _online_store_failed(settings: Settings, error: Exception) -> AssayError:
    return AssayError(
        f"The online store {settings.feast_online} cannot be written: {error}",
        "end what holds that file, then run this again; what it served before it still serves",
    )


def materialize(settings: Settings, view: str, start: date, end: date) -> Materialization:
    """Brings one view's online values up to date for a range of days.

    The online store keeps the newest row of each key whatever the order of writes (online.py). The window reaches on to the
    newest row in Gold, whatever `end` is, so that a backfill of January leaves nothing of February behind. A row in Gold
    is known, so the clock does not cut the window.

    Args:
        settings: the environment.
        view: a key of `definitions.ALL_VIEWS`.
        start: the first day of the range, inclusive.
        end: the last day, inclusive.

    Returns:
        The range's rows by day (0: Gold has none for it), the number of keys brought up to date, the window of
        `available_at`, the snapshot read.

    Raises:
        AssayError: Gold has no row for any day of the range, or was rewritten during every read; or the online store is
            held by another process.
    """
    from sqlite3 import OperationalError

    name = settings.table("gold", view)
    store = apply(settings)
    for _ in range(READS_BEFORE_GIVING_UP):
        table = load_table(settings, "gold", view)
        snapshot_id = current_snapshot_id(table)
        rows = _rows_since(table, ALL_VIEWS[view], start)
        counted: dict[Any, int] = rows[ALL_VIEWS[view].day].value_counts().to_dict()
        days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
        rows_by_day = {day: counted.get(day, 0) for day in days}
        if not any(rows_by_day.values()) or snapshot_id is None:
            raise AssayError(f"{name} has no row for {start} to {end}", f"materialize gold/{view} for {start} to {end}")
        window_start = rows[AVAILABLE_AT].min().to_pydatetime().astimezone(UTC)
        window_end = rows[AVAILABLE_AT].max().to_pydatetime().astimezone(UTC)
        try:
            with writer_lock(settings, f"features.{view}"):
                store.materialize(window_start, window_end, feature_views=[view])
        except OperationalError as error:
            raise _online_store_failed(settings, error) from error
        if current_snapshot_id(load_table(settings, "gold", view)) == snapshot_id:
            return Materialization(
                rows_by_day=rows_by_day,
                keys_written=len(rows[ALL_VIEWS[view].key].unique()),
                window_start=window_start,
                window_end=window_end,
                snapshot_id=snapshot_id,
            )
    raise never_stood_still(str(name))


def _rows_since(table: "Table", view: View, start: date) -> "pd.DataFrame":
    columns = (view.key, view.day, AVAILABLE_AT)
    return table.scan(row_filter=f"{view.day} >= '{start}'", selected_fields=columns).to_arrow().to_pandas()


def never_stood_still(name: str) -> AssayError:
    """What is said of a table that no read found at rest."""
    return AssayError(
        f"{name} was rewritten during each of {READS_BEFORE_GIVING_UP} reads", "run this again once its writer is done"
    )


@dataclass(frozen=True)
class OnlineComparison:
    """Whether the online store serves what Gold has.

    Args:
        keys: how many keys Gold has.
        missing: those that nothing is served for.
        older: those that Gold has a newer row of than is served.
        different: those whose served row is the one of Gold and says something else.
        newer: those served from a row that Gold does not have: pushed ahead of it, or gone from Gold.
        days: the first and the last day whose materialization makes the two the same; None if they are.
        snapshot_id: the snapshot of Gold that was compared.
    """

    view: str
    keys: int
    missing: list[str]
    older: list[str]
    different: list[str]
    newer: list[str]
    days: tuple[date, date] | None
    snapshot_id: int | None

    @property
    def same(self) -> bool:
        """Nothing is missing, older or different; what was pushed ahead of Gold may be newer."""
        return not (self.missing or self.older or self.different)


def compare_online_with_offline(settings: Settings, view: str) -> OnlineComparison:
    """Looks every key of a view up in both stores: the newest row of Gold beside the one that is served.

    Args:
        settings: the environment.
        view: a key of `definitions.ALL_VIEWS`.

    Returns:
        The keys that differ, in name order.

    Raises:
        AssayError: the table does not exist, or the view was never put online.
    """
    import pandas as pd

    declared = ALL_VIEWS[view]
    table = load_table(settings, "gold", view)
    features = [*declared.counts, *declared.numbers, AVAILABLE_AT]
    rows = table.scan(selected_fields=(declared.key, declared.day, *features)).to_arrow().to_pandas()
    newest = rows.sort_values(AVAILABLE_AT).groupby(declared.key).tail(1).set_index(declared.key).sort_index()
    keys = newest.index.to_list()
    served = pd.DataFrame(_served(settings, declared, keys, features), index=newest.index)
    here = pd.to_datetime(newest[AVAILABLE_AT], utc=True).dt.floor("s")
    there = pd.to_datetime(served[AVAILABLE_AT], utc=True)
    values = [name for name in features if name != AVAILABLE_AT]
    left, right = newest[values].astype("float64"), served[values].astype("float64")
    equal = ((left == right) | (left.isna() & right.isna())).all(axis=1)
    found = {
        "missing": there.isna(),
        "older": there < here,
        "different": (there == here) & ~equal,
        "newer": there > here,
    }
    named = {name: served.index[mask].to_list() for name, mask in found.items()}
    behind = newest.loc[found["missing"] | found["older"] | found["different"], declared.day]
    days = None if behind.empty else (behind.min(), behind.max())
    return OnlineComparison(view, len(keys), days=days, snapshot_id=current_snapshot_id(table), **named)


def _served(settings: Settings, view: View, keys: list[str], features: list[str]) -> dict[str, list[Any]]:
    """Every feature of a view's keys as the online store has it, past its time to live too."""
    from feast.errors import FeatureViewNotFoundException

    if not keys:
        return {name: [] for name in features}
    try:
        answer = open_store(settings).get_online_features(
            features=[f"{view.name}:{name}" for name in features], entity_rows=[{view.key: key} for key in keys]
        )
    except FeatureViewNotFoundException as error:
        raise AssayError(
            f"Feast's registry has no view {view.name}", f"materialize the asset features/{view.name}"
        ) from error
    return {name: values for name, values in answer.to_dict().items() if name in features}
