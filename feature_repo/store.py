"""The three things done with the feature store: apply, materialize, read point in time.

Belongs here: the guards around Feast's behaviour. Does not belong here: how the store is opened (configuration.py), which
features exist (definitions.py), models, or when any of this runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from feature_repo.configuration import open_store
from feature_repo.definitions import AVAILABLE_AT, COUNTS, ENTITY, RATES, declare
from foundation import clock
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

# The column of an entity frame that says when each row is judged: Feast's own default name.
EVENT_TIMESTAMP = "event_timestamp"
# Gold is rewritten once per run at most; a table that moves under three reads in a row is being rewritten in a loop.
READS_BEFORE_GIVING_UP = 3


class Materialization(TypedDict):
    """What a materialization did, for a run's metadata."""

    rows_by_day: dict[date, int]
    keys_written: int
    window_start: datetime
    window_end: datetime
    snapshot_id: int | None


@dataclass(frozen=True)
class HistoricalFeatures:
    """Features as they were known at each row's moment.

    Args:
        frame: the entity frame's rows, once each, in their order and with their index, and the features beside them.
        snapshot_id: the snapshot of `gold/carrier_history` that was read; None if the table is empty.
    """

    frame: "pd.DataFrame"
    snapshot_id: int | None


def apply(settings: Settings) -> "FeatureStore":
    """Writes the declarations to the registry: an upsert, 20 ms when nothing changed.

    Returns:
        The store, ready to be asked.
    """
    store = open_store(settings)
    store.apply(declare(settings).objects)
    return store


def materialize(settings: Settings, start: date, end: date) -> Materialization:
    """Brings the online store up to date for a range of days.

    Feast's SQLite online store keeps what was written last, not what is newest: materializing day 10 and then day 3
    would serve day 3. So the window always reaches from the range's first history to the newest one in Gold, whatever
    `end` is; Feast then writes the newest row of each key. A row in Gold is known, so the clock does not cut the
    window.

    Args:
        settings: the environment.
        start: the first day of the range (`flight_date`), inclusive.
        end: the last day, inclusive.

    Returns:
        The range's rows by day (0: Gold has no history for it), the number of keys written, the window, the snapshot
        read.

    Raises:
        AssayError: Gold has no history for any day of the range, or was rewritten during every read.
    """
    name = settings.table("gold", "carrier_history")
    store = apply(settings)
    for _ in range(READS_BEFORE_GIVING_UP):
        table = load_table(settings, "gold", "carrier_history")
        snapshot_id = current_snapshot_id(table)
        gold = table.scan(selected_fields=(ENTITY, "flight_date", AVAILABLE_AT)).to_arrow().to_pandas()
        asked = gold[(gold["flight_date"] >= start) & (gold["flight_date"] <= end)]
        if asked.empty:
            raise AssayError(
                f"{name} has no history for {start} to {end}", f"materialize gold/carrier_history for {start} to {end}"
            )
        window_start = asked[AVAILABLE_AT].min().to_pydatetime().astimezone(UTC)
        window_end = gold[AVAILABLE_AT].max().to_pydatetime().astimezone(UTC)
        store.materialize(window_start, window_end, feature_views=["carrier_history"])
        if current_snapshot_id(load_table(settings, "gold", "carrier_history")) == snapshot_id:
            rows = asked["flight_date"].value_counts()
            days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
            return Materialization(
                rows_by_day={day: int(rows.get(day, 0)) for day in days},
                keys_written=int(gold[gold[AVAILABLE_AT] >= window_start][ENTITY].nunique()),
                window_start=window_start,
                window_end=window_end,
                snapshot_id=snapshot_id,
            )
    raise _never_stood_still(str(name))


def historical_features(settings: Settings, entity_df: "pd.DataFrame") -> HistoricalFeatures:
    """The features of `arrival_delay_v1` as they were known at each row's moment.

    Feast is asked once per distinct key and moment, and its answer is joined back here: flights of one carrier often
    leave in the same minute, and a store that merges equal keys must not merge flights.

    Args:
        settings: the environment.
        entity_df: has `carrier` and `event_timestamp` (with a time zone); other columns come back untouched. A row
            without either gets null features.

    Returns:
        Every input row exactly once, all features as float64 with NaN where nothing was known, `available_at` in UTC.

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
    # Microseconds, as Iceberg stores them: DuckDB 2.0 cannot cast its nanosecond type with a time zone.
    rows = entity_df.assign(**{EVENT_TIMESTAMP: moments.astype("datetime64[us, UTC]")})
    asked = rows.filter(items=[ENTITY, EVENT_TIMESTAMP]).dropna().drop_duplicates(ignore_index=True)
    known, snapshot_id = _ask_feast(settings, asked)
    frame = rows.merge(known, how="left", on=[ENTITY, EVENT_TIMESTAMP], validate="many_to_one")
    if len(frame) != len(entity_df):
        raise AssayError(
            f"{len(entity_df)} rows asked Feast for features and {len(frame)} came back",
            "report this: no row may be lost",
        )
    return HistoricalFeatures(frame.set_index(entity_df.index), snapshot_id)


def _ask_feast(settings: Settings, asked: "pd.DataFrame") -> tuple["pd.DataFrame", int | None]:
    store = apply(settings)
    service = declare(settings).service
    for _ in range(READS_BEFORE_GIVING_UP):
        before = current_snapshot_id(load_table(settings, "gold", "carrier_history"))
        if asked.empty:
            # Feast looks for the first and last moment of the frame and fails on an empty one.
            known = asked.assign(**dict.fromkeys((*COUNTS, *RATES, AVAILABLE_AT)))
        else:
            known = store.get_historical_features(entity_df=asked.copy(), features=service).to_df()
        if current_snapshot_id(load_table(settings, "gold", "carrier_history")) == before:
            # Counts become float where a row is missing, and Decimal where SQL made them so: float64 is the one type.
            types = dict.fromkeys((*COUNTS, *RATES), "float64") | dict.fromkeys(
                (EVENT_TIMESTAMP, AVAILABLE_AT), "datetime64[us, UTC]"
            )
            return known.astype(types), before
    raise _never_stood_still(str(settings.table("gold", "carrier_history")))


def _never_stood_still(name: str) -> AssayError:
    return AssayError(
        f"{name} was rewritten during each of {READS_BEFORE_GIVING_UP} reads", "run this again once its writer is done"
    )


def online_features(settings: Settings, carriers: Sequence[str]) -> list[dict[str, Any]]:
    """What the online store serves now.

    Args:
        settings: the environment.
        carriers: the keys to look up.

    Returns:
        A dict per carrier, in their order: the features (None if unknown) and `age_hours`, from the clock of the
        platform, because the SQLite store also serves what is past its time to live.
    """
    store = apply(settings)
    answer = store.get_online_features(
        features=declare(settings).service, entity_rows=[{ENTITY: carrier} for carrier in carriers]
    ).to_dict()
    served = [{name: values[row] for name, values in answer.items()} for row in range(len(carriers))]
    now = clock.now(settings)
    for row in served:
        available_at = row[AVAILABLE_AT]
        row["age_hours"] = None if available_at is None else (now - available_at).total_seconds() / 3600
    return served
