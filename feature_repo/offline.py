"""Feast's offline store over Iceberg, with a point-in-time join that DuckDB has a plan for.

Belongs here: the join, as a store class that feature_store.yaml can name. Does not belong here: what is asked of it
(store.py). Like Feast's own duckdb store it reads Iceberg with PyIceberg, from local files and S3 alike, and joins in this
process; unlike that one it reads only the columns and the days that are asked for, and joins each row with one row instead
of with all that came before it within the time to live.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa
from feast import FeatureView
from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

if TYPE_CHECKING:
    import pandas as pd

ROW = "assay_row"
# The window of rows without a moment, for which nothing is known.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """Named in feature_store.yaml by the path of the store's class."""

    type: Literal["feature_repo.offline.AsOfOfflineStore"] = "feature_repo.offline.AsOfOfflineStore"  # pyright: ignore[reportIncompatibleVariableOverride]


class AsOfOfflineStore(DuckDBOfflineStore):
    """Feast's duckdb store, its historical retrieval replaced; every view must have an `IcebergSource`."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: "pd.DataFrame | str",
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """For each row the newest row of each view that was there at its moment and not past its time to live.

        Each row of `entity_df` comes back once and in its order, equal ones too, and with nulls where its key is null or
        nothing was known.

        Raises:
            NotImplementedError: `entity_df` is SQL, or created timestamps are to be compared.
        """
        if isinstance(entity_df, str) or filter_by_created_timestamp:
            raise NotImplementedError("AsOfOfflineStore joins frames, by event time only: give a data frame")
        moment = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
        asked = pa.Table.from_pandas(entity_df, preserve_index=False)
        moments = entity_df[moment].dropna()
        window = (moments.min().to_pydatetime(), moments.max().to_pydatetime()) if len(moments) else (NEVER, NEVER)
        with duckdb.connect() as connection:
            # Moments leave DuckDB in its session's zone.
            connection.execute("set timezone = 'UTC'")
            connection.register("asked", asked.append_column(ROW, pa.array(range(len(asked)), pa.int64())))
            selected, joins = [f'asked."{name}"' for name in asked.column_names], []
            for number, view in enumerate(feature_views):
                features = [
                    ref.split(":")[1] for ref in feature_refs if ref.split(":")[0] == view.projection.name_to_use()
                ]
                rows = _read(view, features, window)
                connection.register(f"view{number}", rows)
                joins.append(_join(view, f"view{number}", moment))
                prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
                selected += [
                    f'{_unexpired(view, f"view{number}", name, moment)} as "{prefix}{name}"' for name in features
                ]
            statement = f"select {', '.join(selected)} from asked {' '.join(joins)} order by asked.{ROW}"
            known = connection.sql(statement).to_arrow_table()
        return Answer(
            known, OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry), full_feature_names
        )


class Answer(RetrievalJob):
    """Rows that are there already; Feast puts its on-demand features beside them."""

    def __init__(self, rows: pa.Table, on_demand: list[OnDemandFeatureView], full_names: bool) -> None:
        self._rows, self._on_demand, self._full_names = rows, on_demand, full_names

    @property
    def full_feature_names(self) -> bool:
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return None

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._rows

    def _to_df_internal(self, timeout: int | None = None) -> "pd.DataFrame":
        return self._rows.to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Not offered: a training set is a table of its own."""
        raise NotImplementedError("AsOfOfflineStore saves no data sets: write the frame yourself")


def _read(view: FeatureView, features: list[str], window: tuple[datetime, datetime]) -> pa.Table:
    """The columns asked for, of the rows that can be the newest for some moment of the window."""
    source: Any = view.batch_source
    if not isinstance(source, IcebergSource):
        raise NotImplementedError(f"{view.name} has no IcebergSource")
    catalog: Any = source.get_catalog_client()
    table = catalog.load_table(f"{source.namespace}.{source.iceberg_table}")
    first, last = window
    available = f"{source.timestamp_field} <= '{last.isoformat()}'"
    if view.ttl:
        available += f" and {source.timestamp_field} >= '{(first - view.ttl).isoformat()}'"
    columns = {*view.join_keys, source.timestamp_field, *features}
    return table.scan(row_filter=available, selected_fields=tuple(columns)).to_arrow()


def _join(view: FeatureView, name: str, moment: str) -> str:
    keys = [f'asked."{key}" = {name}."{key}"' for key in view.join_keys]
    source: Any = view.batch_source
    return f'asof left join {name} on {" and ".join(keys)} and asked."{moment}" >= {name}."{source.timestamp_field}"'


def _unexpired(view: FeatureView, name: str, feature: str, moment: str) -> str:
    if not view.ttl:
        return f'{name}."{feature}"'
    source: Any = view.batch_source
    lives = f"interval '{int(view.ttl.total_seconds())}' second"
    return f'case when asked."{moment}" <= {name}."{source.timestamp_field}" + {lives} then {name}."{feature}" end'
