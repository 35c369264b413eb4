"""The one way to Spark: a Spark Connect client, so that no process of ours needs Java.

Belongs here: connecting, and turning a server's error into one line. Does not belong here: queries.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from foundation.errors import AssayError
from foundation.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def connect(settings: Settings) -> Iterator["SparkSession"]:
    """A session of its own, ended on leaving: temporary views and settings are nobody else's.

    Raises:
        AssayError: Spark is not reachable, or refused a statement; carries its first line, not the JVM's 150.
    """
    from pyspark.errors import PySparkException
    from pyspark.errors.exceptions.connect import SparkConnectGrpcException
    from pyspark.sql import SparkSession

    remote = settings.spark_remote
    try:
        # create(), not getOrCreate(): a session that outlived its server would be handed out again.
        session = SparkSession.builder.remote(remote).create()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        session.conf.set("spark.sql.ansi.enabled", "true")
    except (SparkConnectGrpcException, OSError) as error:
        raise AssayError(f"Spark does not answer at {remote}: {_first_line(error)}", "see ./assay status and ./assay logs spark") from error
    try:
        yield session
    except PySparkException as error:
        raise AssayError(f"Spark at {remote}: {_first_line(error)}", "see ./assay logs spark, then run this again") from error
    finally:
        _stop(session)


def _stop(session: "SparkSession") -> None:
    from pyspark.errors import PySparkException

    try:
        session.stop()
    except PySparkException:
        return  # the server went away first, and with it the session


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:500]


def snapshot_options(lineage: Mapping[str, str]) -> dict[str, str]:
    """Writer options that put who wrote a snapshot into it: `dagster.run_id` and whatever else the caller names."""
    return {f"snapshot-property.{key}": value for key, value in lineage.items()}
