"""A branch's part of each service that its base runs: making it, and taking it away again.

Belongs here: the branch's catalog in Trino, its databases in ClickHouse, its users in both, its models in MLflow; copies
of what its base keeps in files. Does not belong here: the clone of the lake (spark_assets/clone.py), the order in which the
parts are made (orchestrator/cli/branch.py).

Everything may be done twice: a command that was killed is run again.
"""

import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.embedded import analysts, programs
from deploy.embedded.files import write_private
from foundation.errors import AssayError
from foundation.lake import Pin
from foundation.lock import writer_lock
from foundation.names import schema_prefix
from foundation.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# The databases of ClickHouse, by the first part of an asset key, and what of them a branch begins with.
WAREHOUSE, LAKE = "warehouse", "lake"


def refuse_taken(base: Settings, branch: Settings) -> None:
    """Before anything of a new branch is made: nobody else builds under its names in this home.

    Raises:
        AssayError: somebody does, or the services are down.
    """
    prefix = schema_prefix(branch.environment)
    with _clickhouse(base) as client:
        taken = [name for (name,) in client.query("show databases").result_rows if name.startswith(prefix)]
    with closing(sqlite3.connect(base.catalog_file)) as connection:
        rows = connection.execute("select distinct namespace from iceberg_namespace_properties").fetchall()
    taken += [name for (name,) in rows if name.startswith(prefix)]
    if taken or analysts.is_analyst(base, branch.environment):
        raise AssayError(
            f"Somebody builds as {branch.trino_user} in {base.home} already: {', '.join(taken) or 'an analyst'}",
            "give the branch another name",
        )


# Trino ----------------------------------------------------------------------------------------------------------------


def add_catalog(base: Settings, branch: Settings) -> None:
    """The branch's catalog, and its user, who may write in no other."""
    analysts.admit_branch(base, branch)
    listed = ", ".join(f'"{name}" = {_text(value)}' for name, value in sorted(programs.trino_catalog(branch).items()))
    _trino(base, f"create catalog if not exists {branch.catalog} using iceberg with ({listed})")


def remove_catalog(base: Settings, branch: Settings) -> None:
    """Queries in it end with an error."""
    _trino(base, f"drop catalog if exists {branch.catalog}")
    analysts.dismiss_branch(base, branch)


def _trino(settings: Settings, statement: str) -> None:
    from trino.dbapi import connect
    from trino.exceptions import Error

    host, port = settings.trino_address
    try:
        with connect(host=host, port=port, user=settings.trino_user, max_attempts=1) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            cursor.fetchall()
    except (Error, OSError) as error:
        raise _failed("Trino", settings, error) from None


# ClickHouse -----------------------------------------------------------------------------------------------------------


def add_databases(base: Settings, branch: Settings, pins: Iterable[Pin]) -> None:
    """The warehouse's tables, as hard links to their parts; its views; a view on each published table of the branch's lake;
    and the user who may write there alone.

    Args:
        pins: of the branch's lake.
    """
    prefix = schema_prefix(branch.environment)
    with _clickhouse(base) as client:
        for database in (WAREHOUSE, LAKE):
            client.command(f"create database if not exists `{prefix}{database}`")
        for pin in pins:
            client.command(
                f"create or replace view `{prefix}{LAKE}`.`{pin.view}` as select * from icebergLocal("
                f"{_text(pin.uri)}, SETTINGS iceberg_metadata_file_path = {_text(pin.metadata)})"
            )
        tables, views = _of_warehouse(client)
        for name in tables:
            own = f"`{prefix}{WAREHOUSE}`.`{name}`"
            client.command(f"drop table if exists {own}")
            client.command(f"create table {own} clone as `{WAREHOUSE}`.`{name}`")
        for statement in views:
            client.command(_renamed(statement, prefix))
    password = branch.clickhouse_secret
    assert password is not None
    if not password.exists():
        write_private(password, secrets.token_urlsafe(24) + "\n")
    _set_users(base, {branch.clickhouse_user: [password.read_text().strip(), prefix]})


def remove_databases(base: Settings, branch: Settings) -> None:
    """The base's parts stay: a hard link is one of several names of a file."""
    _set_users(base, {branch.clickhouse_user: None})
    with _clickhouse(base) as client:
        for database in (WAREHOUSE, LAKE):
            client.command(f"drop database if exists `{schema_prefix(branch.environment)}{database}` sync")


def _of_warehouse(client: "Client") -> tuple[list[str], list[str]]:
    """The names of the base's tables, and the statements that made its views, in the order in which those were made: a view
    on a view comes after it."""
    found = client.query(
        "select engine, name, create_table_query from system.tables where database = {database:String} "
        r"and name not like '%\_\_dbt\_%' order by metadata_modification_time, name",
        parameters={"database": WAREHOUSE},
    ).result_rows
    tables = [str(name) for engine, name, _ in found if "MergeTree" in engine]
    return tables, [str(statement) for engine, _, statement in found if engine == "View"]


def _renamed(statement: str, prefix: str) -> str:
    """A view's statement, with the databases of the branch in place of the base's."""
    own = re.sub(rf"(?<![\w.`'])`?({WAREHOUSE}|{LAKE})`?\.(?=[`\w])", rf"`{prefix}\1`.", statement)
    return re.sub(r"^create view", "create or replace view", own, flags=re.IGNORECASE)


def _set_users(base: Settings, changes: dict[str, list[str] | None]) -> None:
    file = programs.clickhouse_users(base)
    with writer_lock(base, "clickhouse.users", wait_seconds=10):
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        users = {user: value for user, value in {**known, **changes}.items() if value is not None}
        write_private(file, json.dumps(users, indent=1))


@contextmanager
def _clickhouse(settings: Settings) -> Iterator["Client"]:
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    # It would say in a second line, and to a person who needs the first, that nobody listens.
    logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)
    host, port = settings.clickhouse_address
    try:
        with clickhouse_connect.get_client(
            host=host, port=port, username=settings.clickhouse_user, password=settings.clickhouse_password
        ) as client:
            yield client
    except (ClickHouseError, OSError) as error:
        raise _failed("ClickHouse", settings, error) from None


# MLflow ---------------------------------------------------------------------------------------------------------------


def remove_models(base: Settings, branch: Settings) -> None:
    """Registered models and experiments that begin with the branch's name, with the files of their runs."""
    import mlflow
    from mlflow.exceptions import MlflowException

    prefix = schema_prefix(branch.environment)
    client = mlflow.MlflowClient(base.mlflow_tracking_uri, base.mlflow_tracking_uri)
    try:
        for model in client.search_registered_models(f"name like '{prefix}%'"):
            if model.name.startswith(prefix):  # to `like`, _ is any character
                client.delete_registered_model(model.name)
        name = f"assay-{branch.environment}"
        experiment = client.get_experiment_by_name(name)
        if experiment and experiment.lifecycle_stage == "active":
            # MLflow keeps the name of what is deleted, and the branch may come again.
            client.rename_experiment(experiment.experiment_id, f"{name}-dropped-{experiment.experiment_id}")
            client.delete_experiment(experiment.experiment_id)
            shutil.rmtree(base.home / "mlflow" / "artifacts" / experiment.experiment_id, ignore_errors=True)
    except (MlflowException, OSError) as error:
        raise _failed("MLflow", base, error) from None


# Files --------------------------------------------------------------------------------------------------------------


def copy_arrivals(base: Settings, branch: Settings) -> None:
    """The ledger, and every archived file under a second name: nothing is copied, and neither can change."""
    _copy_database(base.home / "ledger.db", branch.home / "ledger.db")
    _link_files(base.archive, branch.archive)


def copy_history(base: Settings, branch: Settings) -> None:
    """What Dagster knows of the base's partitions and checks: the tables are there, so their events must be, or everything
    would be late. Not the logs of runs, and nothing goes on that is going on in the base."""
    for file in (Path("runs.db"), Path("runs") / "index.db"):
        _copy_database(base.dagster_home / "history" / file, branch.dagster_home / "history" / file)
    runs = branch.dagster_home / "history" / "runs.db"
    if runs.exists():
        with closing(sqlite3.connect(runs)) as connection, connection:
            ended = "'SUCCESS', 'FAILURE', 'CANCELED'"
            connection.execute(f"update runs set status = 'CANCELED' where status not in ({ended})")


def copy_online_store(base: Settings, branch: Settings, old: str, own: str) -> None:
    """The newest features of every key, under the branch's name of the project: the history says that they are there.

    Args:
        old, own: what Feast calls the base's project and the branch's.
    """
    store = Path(branch.feast_online)
    _copy_database(Path(base.feast_online), store)
    if store.exists():
        with closing(sqlite3.connect(store)) as connection, connection:
            tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
            for (name,) in tables:
                if name.startswith(f"{old}_"):
                    connection.execute(f'alter table "{name}" rename to "{own}{name.removeprefix(old)}"')


def _copy_database(source: Path, target: Path) -> None:
    """An SQLite file as it is at one moment, while others write it; nothing if it is not there yet."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as copy:
        reading.backup(copy)


def _link_files(source: Path, target: Path) -> None:
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (there / name).exists():
                os.link(Path(folder) / name, there / name)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _failed(engine: str, base: Settings, error: Exception) -> AssayError:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = "does not answer" if "Connection refused" in str(error) else f"said: {first.strip()[:400]}"
    return AssayError(f"{engine} of {base.home} {said}", "run ./assay up in the base, then the same command again")
