"""Where the feature store is: Feast's configuration from settings.

Belongs here: registry, online and offline store of an environment. Does not belong here: which features there are
(definitions.py), or what is done with them (store.py).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from foundation.names import schema_prefix
from foundation.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


def project(settings: Settings) -> str:
    """Feast's project: `assay`, prefixed as tables are: a branch that shares a registry overwrites nobody's views."""
    return f"{schema_prefix(settings.environment)}assay"


def prepare_folders(settings: Settings) -> None:
    """Makes the folders that SQLite wants to find, where registry and online store are embedded."""
    if not settings.is_external("feast-registry"):
        Path(settings.feast_registry.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    if not settings.is_external("feast-online"):
        Path(settings.feast_online).parent.mkdir(parents=True, exist_ok=True)


def open_store(settings: Settings) -> "FeatureStore":
    """The feature store of these settings: an SQL registry, offline.py over Iceberg, and of online.py Redis or SQLite."""
    from feast import FeatureStore, RepoConfig

    prepare_folders(settings)
    if settings.is_external("feast-online"):
        online = {"type": "feature_repo.online.NewestRedisOnlineStore", "connection_string": settings.feast_online}
    else:
        online = {"type": "feature_repo.online.NewestSqliteOnlineStore", "path": settings.feast_online}
    return FeatureStore(
        config=RepoConfig(
            project=project(settings),
            provider="local",
            registry={"registry_type": "sql", "path": settings.feast_registry, "cache_ttl_seconds": 60},
            online_store=online,
            offline_store={"type": "feature_repo.offline.AsOfOfflineStore"},
            entity_key_serialization_version=3,
        )
    )
