"""Measures the features: 100,000 questions point in time, a view online, and a served row, beside the bare work.

Belongs here: `python bench/measure.py features`. Does not belong here: asserting; nothing here is a test. The lake is the
tests' own, of the whole year and without services, in a folder that is removed.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from feature_repo.configuration import open_store
from feature_repo.definitions import AVAILABLE_AT, VIEWS
from feature_repo.service import EVENT_TIMESTAMP, historical_features, online_features
from feature_repo.store import apply, materialize
from foundation.lake import load_table
from foundation.settings import Settings
from tests.integration.small_lake import make_lake, own_home, real_flights, real_weather

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
ROWS, ROUNDS, REQUESTS = 100_000, 3, 300


def features() -> None:
    """Best of some rounds, the ones compared alternating, so that a busy moment hits all."""
    with tempfile.TemporaryDirectory() as folder, own_home(Path(folder)) as settings:
        lake = make_lake(settings, real_flights(FIRST, LAST), real_weather(FIRST, LAST), LAST)
        asked = lake.flights.sample(ROWS, random_state=1).reset_index(drop=True)
        asked[EVENT_TIMESTAMP] = asked["scheduled_departure"] - timedelta(hours=2)
        apply(settings)
        ways: dict[str, Callable[[], Any]] = {
            "bare as-of join": lambda: bare(settings, asked),
            "historical_features": lambda: historical_features(settings, asked),
            "Feast's own duckdb store": lambda: feasts_own(settings, asked),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.monotonic()
                way()
                times[name].append(time.monotonic() - began)
        best = {name: min(found) for name, found in times.items()}
        for name, found in best.items():
            print(f"{ROWS} rows, four views: {name:<26} {found:5.2f} s   ratio {found / best['bare as-of join']:.1f}")
        began = time.monotonic()
        for view in VIEWS:
            materialize(settings, view, FIRST, LAST)
        print(f"the year of four views online: {time.monotonic() - began:.1f} s")
        flights = lake.flights.dropna(subset="tailnum").tail(REQUESTS).to_dict("records")
        online_features(settings, flights[:1])
        waited = []
        for flight in flights:
            began = time.monotonic()
            online_features(settings, [flight])
            waited.append(1000 * (time.monotonic() - began))
        print(
            f"a served row: p50 {statistics.median(waited):.1f} ms   p99 {sorted(waited)[REQUESTS * 99 // 100]:.1f} ms"
        )


def bare(settings: Settings, asked: Any) -> Any:
    """The same columns of the same tables, read and joined by hand, to a data frame."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as connection:
        connection.register("asked", pa.Table.from_pandas(asked[[*(v.key for v in VIEWS.values()), EVENT_TIMESTAMP]]))
        selected, joins = ["asked.*"], []
        for view in VIEWS.values():
            columns = (view.key, *view.served, AVAILABLE_AT)
            connection.register(
                view.name, load_table(settings, "gold", view.name).scan(selected_fields=columns).to_arrow()
            )
            joins.append(
                f"asof left join {view.name} on asked.{view.key} = {view.name}.{view.key} "
                f"and asked.{EVENT_TIMESTAMP} >= {view.name}.{AVAILABLE_AT}"
            )
            selected += [f"{view.name}.{name} as {view.name}__{name}" for name in columns[1:]]
        return connection.sql(f"select {', '.join(selected)} from asked {' '.join(joins)}").df()


def feasts_own(settings: Settings, asked: Any) -> Any:
    """Each view once for its distinct keys and moments: full names fail there where the event time is a feature."""
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore

    store = open_store(settings)
    store._get_provider()._offline_store = DuckDBOfflineStore()  # pyright: ignore[reportAttributeAccessIssue]
    for view in VIEWS.values():
        entities = asked[[view.key, EVENT_TIMESTAMP]].dropna().drop_duplicates(ignore_index=True)
        names = [f"{view.name}:{name}" for name in (*view.served, AVAILABLE_AT)]
        known = store.get_historical_features(entity_df=entities, features=names).to_df()
        asked = asked.merge(known, how="left", on=[view.key, EVENT_TIMESTAMP], suffixes=("", f"_{view.name}"))
    return asked
