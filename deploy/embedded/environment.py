"""The environment variables that make plain `dagster`, `dbt`, `feast` and `mlflow` work against a home.

Belongs here: the names of the variables and their values. Does not belong here: what only one service needs
(`programs`). The addresses of embedded services are exported under the same names that make a service external, and
`ASSAY_EMBEDDED` lists those, so that `foundation.settings.load()` reads the same settings back.
"""

import os
import sys
from pathlib import Path

from foundation.names import schema_prefix
from foundation.settings import BRANCH, BRANCH_USERS, PROJECT, Settings

# The part (a key of `foundation.settings.PRODUCTION_VARIABLES`) that each exported address belongs to.
ADDRESSES = {
    "spark": ("SPARK_REMOTE",),
    "trino": ("TRINO_HOST", "TRINO_PORT"),
    "clickhouse": ("CLICKHOUSE_HOST", "CLICKHOUSE_PORT"),
    "clickhouse-password": ("CLICKHOUSE_PASSWORD",),
    "mlflow": ("MLFLOW_TRACKING_URI",),
    "storage": ("ASSAY_WAREHOUSE_URI",),
    "ledger": ("ASSAY_LEDGER_URL",),
    "feast-registry": ("ASSAY_FEAST_REGISTRY",),
    "feast-online": ("ASSAY_FEAST_ONLINE",),
}


# The commands that want `-m`, each by the variable that Dagster's command line reads for it alone. DAGSTER_MODULE_NAME
# would serve them all, but `dagster dev -w workspace.yaml` refuses to have two places to load from.
DAGSTER_COMMANDS = (
    "ASSET_MATERIALIZE",
    "ASSET_LIST",
    "JOB_LIST",
    "JOB_EXECUTE",
    "JOB_LAUNCH",
    "JOB_BACKFILL",
    "SENSOR_LIST",
    "SENSOR_PREVIEW",
)


def exports(settings: Settings) -> dict[str, str]:
    """The variables and their values.

    Raises:
        AssayError: the services of this home were never started, so there are no addresses.
    """
    trino_host, trino_port = settings.trino_address
    clickhouse_host, clickhouse_port = settings.clickhouse_address
    variables = {
        "ASSAY_HOME": str(settings.home),
        **_named(settings),
        "ASSAY_CATALOG": settings.catalog,
        "ASSAY_CACHE": str(settings.cache),
        "ASSAY_EMBEDDED": ",".join(
            [part for part in ADDRESSES if not settings.is_external(part)] + [BRANCH_USERS] * bool(settings.base)
        ),
        "ASSAY_SCHEMA_PREFIX": schema_prefix(settings.environment),
        # What dbt writes, reads and is. A person's shell has others (orchestrator/dbt_environment.py), which must not
        # reach Dagster's runs.
        "ASSAY_DBT_PREFIX": schema_prefix(settings.environment),
        "ASSAY_SOURCE_PREFIX": schema_prefix(settings.environment),
        "ASSAY_DBT_USER": settings.trino_user,
        "DBT_DEFER": "false",
        "ASSAY_WAREHOUSE_URI": settings.warehouse_uri,
        "ASSAY_LEDGER_URL": settings.ledger_url,
        "ASSAY_FEAST_REGISTRY": settings.feast_registry,
        "ASSAY_FEAST_ONLINE": settings.feast_online,
        "SPARK_REMOTE": settings.spark_remote,
        "TRINO_HOST": trino_host,
        "TRINO_PORT": str(trino_port),
        "TRINO_USER": settings.trino_user,
        "CLICKHOUSE_HOST": clickhouse_host,
        "CLICKHOUSE_PORT": str(clickhouse_port),
        "CLICKHOUSE_USER": settings.clickhouse_user,
        "CLICKHOUSE_PASSWORD": settings.clickhouse_password,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "DAGSTER_HOME": str(settings.dagster_home),
        # A range's events are written together: orchestrator/event_log.py, and dagster-postgres.
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        **{f"DAGSTER_CLI_{command}_MODULE_NAME": "orchestrator.definitions" for command in DAGSTER_COMMANDS},
        # A test of two tables runs with the one that is made last: with either, it would ask for one that is not there yet.
        "DBT_INDIRECT_SELECTION": "buildable",
        "DBT_PROJECT_DIR": str(PROJECT / "dbt_project"),
        "DBT_PROFILES_DIR": str(PROJECT / "dbt_project"),
        "FEAST_FS_YAML_FILE_PATH": str(PROJECT / "feature_repo" / "feature_store.yaml"),
        "PATH": with_first(str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)),
        "PYTHONPATH": with_first(str(PROJECT), os.environ.get("PYTHONPATH", "")),
        # Compiled modules are kept: a run starts several Python processes, and compiling costs each of them seconds.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(settings.cache / "pycache"),
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }
    if settings.is_external("catalog"):
        variables["ICEBERG_CATALOG_URI"] = settings.iceberg_catalog_properties()["uri"]
    # The home's own clock stays in its settings.env: exported, it would outlive the next demo.
    if os.environ.get("ASSAY_NOW"):
        variables["ASSAY_NOW"] = os.environ["ASSAY_NOW"]
    return variables


def _named(settings: Settings) -> dict[str, str]:
    if settings.base is None:
        return {"ASSAY_ENV": settings.environment}
    return {"ASSAY_ENV": BRANCH, "ASSAY_BRANCH": settings.environment, "ASSAY_BASE": str(settings.base)}


def with_first(entry: str, path: str) -> str:
    """A search path that begins with the entry and holds it once."""
    return os.pathsep.join([entry, *(item for item in path.split(os.pathsep) if item and item != entry)])
