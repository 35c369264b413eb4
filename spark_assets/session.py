"""The one way to Spark: a Spark Connect client, so that no process of ours needs Java.

Belongs here: connecting, and turning a server's error into one line. Does not belong here: queries.
"""

import atexit
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from foundation.errors import AssayError
from foundation.lake import spark_catalog
from foundation.names import CATALOG, schema_prefix
from foundation.settings import Settings, base_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# One session a process, never stopped, old ones kept: stopping one, or merely collecting it, shuts a thread pool that all
# of them share, and a collection in the middle of a submit waits for itself forever (pyspark 4.1, seen). The server
# forgets an idle session after an hour by itself.
_sessions: dict[tuple[str, str, bool], "SparkSession"] = {}
_retired: list["SparkSession"] = []


# supervisord starts a killed Spark again within some 10 s.
CONNECT_SECONDS = 30
# 1 TB: no file is cut, and none is so cheap to open that it is packed with another.
ONE_FILE_A_TASK = str(1 << 40)


@contextmanager
def connect(settings: Settings) -> Iterator["SparkSession"]:
    """The session of this process.

    Raises:
        AssayError: Spark is not reachable, or refused a statement; carries its first line, not the JVM's 150.
    """
    from pyspark.errors import PySparkException

    # It prints each error a second time, as 4,000 characters of JSON.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    try:
        yield _session(settings)
    except PySparkException as error:
        if settings.base and "UncheckedSQLException" in str(error):  # SQLite said no, and Iceberg does not say what
            raise AssayError(
                f"Spark: the catalog did not take the change; in a branch {CATALOG} is its base's, and only read",
                f"write the branch's own tables, {settings.catalog}.{schema_prefix(settings.environment)}<layer>.<table>",
            ) from None
        raise AssayError(
            f"Spark at {settings.spark_remote}: {_first_line(error).rstrip('.')}",
            "see ./assay status and ./assay logs spark, then run the same again",
        ) from None


def _session(settings: Settings) -> "SparkSession":
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.retries import DefaultPolicy

    remote = settings.spark_remote
    # A branch's session has other catalogs than its base's; a catalog's configuration is read once, when it is first named.
    key = (remote, settings.catalog, settings.read_only)
    if key in _sessions:
        try:
            _sessions[key].conf.get("spark.sql.session.timeZone")
            return _sessions[key]
        except PySparkException:  # the server was restarted, or forgot us: a new session says if it is there at all
            _retired.append(_sessions.pop(key))
    _wait_until_listening(remote)
    session = SparkSession.builder.remote(remote).create()
    # The client's own policy tries for 10 minutes; 9 tries up to 10 s apart are 55 s, longer than a restart takes.
    session.client.set_retry_policies([DefaultPolicy(max_retries=9, max_backoff=10_000)])
    # It would ask the server to forget models that we never send; if the server is gone by then, for minutes.
    atexit.unregister(session.client._cleanup_ml_cache)
    _sessions[key] = session
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.conf.set("spark.sql.ansi.enabled", "true")
    # pandas writes nanoseconds, which Spark refuses unless they are numbers to it (bronze.py).
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    # Each file is one task's, whatever its size: row numbers rest on it (bronze.py).
    session.conf.set("spark.sql.files.maxPartitionBytes", ONE_FILE_A_TASK)
    session.conf.set("spark.sql.files.openCostInBytes", ONE_FILE_A_TASK)
    for name, value in _own_catalogs(settings).items():
        session.conf.set(name, value)
    return session


def _own_catalogs(settings: Settings) -> dict[str, str]:
    """What the server does not know: a branch's catalog, and its base's, opened read-only."""
    if settings.base:
        return {**spark_catalog(settings), **spark_catalog(base_settings(settings))}
    return spark_catalog(settings) if settings.read_only else {}


def _wait_until_listening(remote: str) -> None:
    """The client would wait for minutes and then not say that nobody was there."""
    address = urlsplit(remote)
    began = time.monotonic()
    while True:
        try:
            socket.create_connection((address.hostname or "", address.port or 15002), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() - began > CONNECT_SECONDS:
                raise AssayError(
                    f"Spark does not answer at {remote}: {error}", "run ./assay up, then this again"
                ) from None
            time.sleep(1)


def _first_line(error: Exception) -> str:
    # What the client says when its session is gone from a server that it reached before.
    if "NO_ACTIVE_SESSION" in str(error) or "SESSION_NOT_FOUND" in str(error) or "SESSION_CHANGED" in str(error):
        return "it was restarted in the middle of this work"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:500]


def snapshot_options(lineage: Mapping[str, str]) -> dict[str, str]:
    """Writer options that put who wrote a snapshot into it: `dagster.run_id` and whatever else the caller names."""
    return {f"snapshot-property.{key}": value for key, value in lineage.items()}
