"""The features of the service `arrival_delay_v1` as models read them: point in time, and online.

Belongs here: the guards around Feast's reading. Does not belong here: what every view has in common (store.py), which
features exist (definitions.py), models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from feature_repo.configuration import open_store
from feature_repo.definitions import (
    CALENDAR,
    CALENDAR_FEATURES,
    CALENDAR_INPUT,
    KEYS,
    SERVICE,
    VIEWS,
    declare,
    served_features,
)
from feature_repo.store import READS_BEFORE_GIVING_UP, apply, never_stood_still
from feature_repo.views import AVAILABLE_AT
from foundation import clock
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureService, FeatureStore

# The column of an entity frame that says when each row is judged: Feast's own default name.
EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True)
class HistoricalFeatures:
    """Features as they were known at each row's moment.

    Args:
        frame: the entity frame's rows, once each, in their order and with their index, and the features beside them.
        snapshots: the snapshots that were read, by full table name (`lake.gold.carrier_history`); an empty table that
            nothing was ever written to has none.
    """

    frame: "pd.DataFrame"
    snapshots: dict[str, int]


def historical_features(settings: Settings, entity_df: "pd.DataFrame") -> HistoricalFeatures:
    """The features of `arrival_delay_v1` as they were known at each row's moment.

    Flights of one carrier often leave in the same minute: our offline store (offline.py) answers each row by itself.

    Args:
        settings: the environment.
        entity_df: has the keys `carrier`, `route`, `tailnum` and `origin`, the calendar's `flight_date` (date, or text in
            ISO form), `sched_dep_time` and `sched_arr_time`, and `event_timestamp` (with a time zone); other columns come
            back untouched. A row without a key or a moment gets null features of that view.

    Returns:
        Every input row exactly once, all features by full name as float64 with NaN where nothing was known,
        `<view>__available_at` in UTC.

    Raises:
        AssayError: the moments have no time zone, or Gold was rewritten during every read.
    """
    import pandas as pd

    moments = entity_df[EVENT_TIMESTAMP]
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        raise AssayError(
            f"The moments in {EVENT_TIMESTAMP} have no time zone ({moments.dtype})",
            "give them in UTC, as Silver has them",
        )
    # Microseconds, as Iceberg stores them: DuckDB 2.0 cannot cast its nanosecond type with a time zone. The date as a
    # request brings it, as text.
    asked = entity_df.filter(items=[*KEYS, *CALENDAR_INPUT]).assign(
        flight_date=entity_df["flight_date"].astype("string").astype("object"),
        **{EVENT_TIMESTAMP: moments.astype("datetime64[us, UTC]")},
    )
    names = served_features()
    moments_known = {name: "datetime64[us, UTC]" for name in names if name.endswith(f"__{AVAILABLE_AT}")}
    # Decimal where SQL made it so; float64 is the one type.
    types = dict.fromkeys(names, "float64") | moments_known
    store, service = _reading(settings)  # pyright: ignore[reportArgumentType] -- frozen, so hashable
    for _ in range(READS_BEFORE_GIVING_UP):
        before = _snapshots(settings)
        known = store.get_historical_features(entity_df=asked, features=service, full_feature_names=True).to_df()
        if _snapshots(settings) != before:
            continue
        if len(known) != len(entity_df):
            raise AssayError(
                f"{len(entity_df)} rows asked Feast for features and {len(known)} came back",
                "report this: no row may be lost",
            )
        features = known.filter(items=names).astype(types).set_index(entity_df.index)
        return HistoricalFeatures(pd.concat([entity_df, features], axis=1), before)
    raise never_stood_still(", ".join(f"gold/{view}" for view in VIEWS))


@lru_cache(maxsize=4)
def _reading(settings: Settings) -> "tuple[FeatureStore, FeatureService]":
    """Once a process: what is declared is code, and writing it again costs as much as the join of 100,000 rows."""
    return apply(settings), declare(settings).service


def _snapshots(settings: Settings) -> dict[str, int]:
    found = {
        str(settings.table("gold", view)): current_snapshot_id(load_table(settings, "gold", view)) for view in VIEWS
    }
    return {table: snapshot for table, snapshot in found.items() if snapshot is not None}


def online_features(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the online store serves now.

    Args:
        settings: the environment.
        rows: each has `carrier`, `route`, `tailnum` (None: not known), `origin`, `flight_date` (date, or text in ISO
            form), `sched_dep_time` and `sched_arr_time`; anything else is ignored.

    Returns:
        A dict a row, in their order: every feature of `arrival_delay_v1` by full name (None if unknown), and a view's
        `<view>__age_hours` from the clock of the platform (None if the view serves nothing), because the SQLite store also
        serves what is past its time to live.

    Raises:
        AssayError: nothing was ever put online.
    """
    import pandas as pd
    from feast.errors import FeatureServiceNotFoundException

    if not rows:
        return []
    # Feast takes no null for a key (which pandas writes as NaN). No row of Gold has an empty one.
    asked = [{key: row[key] if isinstance(row[key], str) else "" for key in KEYS} for row in rows]
    # Views by name and the calendar's own function: asked for the service, Feast takes the calendar through two more kinds of
    # table at each request, a third of the time of an answer.
    of_views = [f"{view.name}:{name}" for view in VIEWS.values() for name in (*view.served, AVAILABLE_AT)]
    try:
        store, _ = serving(settings)  # pyright: ignore[reportArgumentType] -- frozen, so hashable
    except FeatureServiceNotFoundException as error:
        raise AssayError(
            f"Feast's registry has no service {SERVICE}", "materialize the features, such as features/carrier_history"
        ) from error
    answer = store.get_online_features(features=of_views, entity_rows=asked, full_feature_names=True).to_dict()
    requests = [
        {**{name: row[name] for name in CALENDAR_INPUT}, "flight_date": str(row["flight_date"])} for row in rows
    ]
    calendar = _calendar(settings)(pd.DataFrame(requests))  # pyright: ignore[reportArgumentType] -- frozen, so hashable
    answer |= {f"{CALENDAR}__{name}": calendar[name].tolist() for name in CALENDAR_FEATURES}
    names = served_features()
    now = clock.now(settings)
    served: list[dict[str, Any]] = []
    for number in range(len(rows)):
        row = {name: answer[name][number] for name in names}
        for view in VIEWS:
            known_from = row[f"{view}__{AVAILABLE_AT}"]
            row[f"{view}__age_hours"] = None if known_from is None else (now - known_from).total_seconds() / 3600
        served.append(row)
    return served


@lru_cache(maxsize=4)
def serving(settings: Settings) -> "tuple[FeatureStore, FeatureService]":
    """The store and the service that it serves, kept between requests: to look the service up costs more than to ask it."""
    store = open_store(settings)
    return store, store.get_feature_service(SERVICE)


@lru_cache(maxsize=4)
def _calendar(settings: Settings) -> "Callable[[pd.DataFrame], pd.DataFrame]":
    """The function that Feast has in its registry, without the way there."""
    transformation: Any = declare(settings).calendar.feature_transformation
    return transformation.udf
