"""Feast's online stores, guarded: a key keeps its newest row, whatever the order of backfills, materializations and pushes.

Belongs here: what a write may replace, as store classes that feature_store.yaml can name, so that the plain `feast`
command is as safe as ours. Does not belong here: which store an environment has (configuration.py).

Feast 0.67's SQLite store keeps what was written last: day 10 and then day 3 would serve day 3. Its Redis store skips what
is older, but also what is as old: a day that Gold corrected would never get there. Here a row replaces one that is older or
as old. Feast keeps moments in seconds.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, cast

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, adapt_datetime_epoch
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.utils import make_tzaware, to_naive_utc
from google.protobuf.timestamp_pb2 import Timestamp

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Progress = Callable[[int], Any] | None
# SQLite takes 32,766 parameters a statement.
KEYS_AT_ONCE = 10_000


def newest(data: Sequence[Row], keys: Sequence[bytes], moments: Sequence[int], stored: dict[bytes, int]) -> list[Row]:
    """One row a key, the newest of a batch, the later one of equals; without those that are older than what is stored.

    Args:
        data: the batch.
        keys: the key of each of its rows, as the store has it.
        moments: the event time of each of its rows in seconds, as the store counts them.
        stored: the same of what is there; a key that is not there is missing.
    """
    kept: dict[bytes, Row] = {}
    seen = dict(stored)
    for row, key, moment in zip(data, keys, moments, strict=True):
        if moment >= seen.get(key, moment):
            kept[key], seen[key] = row, moment
    return list(kept.values())


def _key(config: RepoConfig, entity: EntityKey) -> bytes:
    return serialize_entity_key(entity, entity_key_serialization_version=config.entity_key_serialization_version)


def _versioned(config: RepoConfig) -> bool:
    registry: Any = config.registry
    return registry.enable_online_feature_view_versioning


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Named in feature_store.yaml by the path of the store's class."""

    type: Literal["feature_repo.online.NewestSqliteOnlineStore"] = "feature_repo.online.NewestSqliteOnlineStore"  # pyright: ignore[reportIncompatibleVariableOverride]


class NewestSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store whose writes never take a key back in time."""

    def online_write_batch(self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress) -> None:
        """Writes what is not older than what is there, in one transaction with looking it up."""
        connection = self._get_conn(config)
        keys = [_key(config, row[0]) for row in data]
        moments = [adapt_datetime_epoch(to_naive_utc(row[2])) for row in data]
        name = compute_table_id(config.project, table, _versioned(config))
        # Feast's own write commits what begins here.
        with connection:
            connection.execute("begin immediate")
            stored: dict[bytes, int] = {}
            for some in _portions(keys):
                marks = ", ".join("?" * len(some))
                # An expression has no declared type, so that the number comes as Feast wrote it.
                question = f'select entity_key, max(event_ts) from "{name}" where entity_key in ({marks}) group by 1'
                stored |= dict(connection.execute(question, some))
            super().online_write_batch(config, table, newest(data, keys, moments, stored), progress)


class NewestRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Named in feature_store.yaml by the path of the store's class."""

    type: Literal["feature_repo.online.NewestRedisOnlineStore"] = "feature_repo.online.NewestRedisOnlineStore"  # pyright: ignore[reportIncompatibleVariableOverride]
    # Feast's own rule is replaced by ours, which has asked before.
    skip_dedup: Literal[True] = True  # pyright: ignore[reportIncompatibleVariableOverride]


class NewestRedisOnlineStore(RedisOnlineStore):
    """Feast's Redis store that takes corrections. Like Feast's, it asks and then writes: two writers of one view at the same
    moment can still cross, so materializations hold the view's lock (store.py)."""

    def online_write_batch(self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress) -> None:
        """Writes what is not older than what is there."""
        view = compute_versioned_name(table, _versioned(config))
        keys = [_key(config, row[0]) + config.project.encode() for row in data]
        moments = [int(make_tzaware(row[2]).timestamp()) for row in data]
        stored: dict[bytes, int] = {}
        client: Any = self._get_client(cast(RedisOnlineStoreConfig, config.online_store))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, f"_ts:{view}")
            for key, said in zip(keys, pipe.execute(), strict=True):
                if said is not None:
                    moment = Timestamp()
                    moment.ParseFromString(said)
                    stored[key] = moment.seconds
        super().online_write_batch(config, table, newest(data, keys, moments, stored), progress)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress
    ) -> None:
        """The same, for Feast's feature server."""
        self.online_write_batch(config, table, data, progress)


def _portions(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE))
