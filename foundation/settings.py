"""Every setting of the platform, read once from the environment and the home's `settings.env`.

Belongs here: addresses, paths, the environment's name, and which mixes of them cannot work. Does not belong here: how a
service is started (deploy/embedded) or used.

A service whose address is set is external; otherwise it is embedded and its address is what `./assay up` wrote to
`<home>/services/addresses.json`. `./assay env` exports embedded addresses for plain tools and says so in
`ASSAY_EMBEDDED`, so that they are not taken for external ones.
"""

import getpass
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from foundation.errors import AssayError
from foundation.names import UNPREFIXED, PhysicalName, physical_name, schema_prefix

PROJECT = Path(__file__).resolve().parents[1]
Service = Literal["spark", "trino", "clickhouse", "mlflow", "dagster"]
# The variable that makes each part external. Spark, Trino, ClickHouse, catalog and storage share one lake: files on a
# laptop's disk are out of reach of another machine's engine, so they are external together or not at all.
LAKE_VARIABLES = {
    "spark": "SPARK_REMOTE",
    "trino": "TRINO_HOST",
    "clickhouse": "CLICKHOUSE_HOST",
    "catalog": "ICEBERG_CATALOG_URI",
    "storage": "ASSAY_WAREHOUSE_URI",
}
PRODUCTION_VARIABLES = {
    **LAKE_VARIABLES,
    "clickhouse-password": "CLICKHOUSE_PASSWORD",
    "mlflow": "MLFLOW_TRACKING_URI",
    "ledger": "ASSAY_LEDGER_URL",
    "feast-registry": "ASSAY_FEAST_REGISTRY",
    "feast-online": "ASSAY_FEAST_ONLINE",
}

# An owner and an address of Apprise: team:operations=mailtos://user:password@host?to=ops@example.org
ALERT_ENTRY = re.compile(r"([^\s=/]+)=(\w+://\S+)")


def alert_entries(value: str) -> list[tuple[str, str]] | None:
    """The entries (owner, address) of ASSAY_ALERTS; None if it is the path of an Apprise configuration.

    Raises:
        AssayError: an entry is not `owner=address`. The message holds none: an address has passwords.
    """
    if "://" not in value:
        return None
    entries: list[tuple[str, str]] = []
    for number, text in enumerate(value.split(), 1):
        found = ALERT_ENTRY.fullmatch(text)
        if found is None:
            raise AssayError(
                f"ASSAY_ALERTS: entry {number} is not owner=address",
                "write entries such as team:operations=mailtos://user:password@host?to=ops@example.org with spaces between "
                "them (%20 for one in an address), or name an Apprise configuration file",
            )
        entries.append((found[1], found[2]))
    return entries


def home_from_environment() -> Path:
    """`ASSAY_HOME`, or `.assay` in the project."""
    return Path(os.environ.get("ASSAY_HOME") or PROJECT / ".assay").expanduser().resolve()


class Settings(BaseSettings):
    """The typed settings. Build with `load()`, which turns mistakes into messages for people."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    environment: str = Field("local", validation_alias="ASSAY_ENV")
    user: str = Field("", validation_alias="ASSAY_USER")
    home: Path = Field(default_factory=home_from_environment)
    cache: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay",
        validation_alias="ASSAY_CACHE",
    )
    now: datetime | None = Field(None, validation_alias="ASSAY_NOW")
    embedded_exports: str = Field("", validation_alias="ASSAY_EMBEDDED")
    # Who is told of problems, and where; see docs/operator.md.
    alerts: SecretStr | None = Field(None, validation_alias="ASSAY_ALERTS")

    spark_remote_external: str | None = Field(None, validation_alias="SPARK_REMOTE")
    trino_host_external: str | None = Field(None, validation_alias="TRINO_HOST")
    trino_port_external: int = Field(8080, validation_alias="TRINO_PORT")
    trino_user: str = Field("assay", validation_alias="TRINO_USER")
    clickhouse_host_external: str | None = Field(None, validation_alias="CLICKHOUSE_HOST")
    clickhouse_port_external: int = Field(8123, validation_alias="CLICKHOUSE_PORT")
    clickhouse_user: str = Field("default", validation_alias="CLICKHOUSE_USER")
    clickhouse_password_external: SecretStr | None = Field(None, validation_alias="CLICKHOUSE_PASSWORD")
    mlflow_external: str | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    catalog_external: str | None = Field(None, validation_alias="ICEBERG_CATALOG_URI")
    warehouse_external: str | None = Field(None, validation_alias="ASSAY_WAREHOUSE_URI")
    ledger_external: str | None = Field(None, validation_alias="ASSAY_LEDGER_URL")
    feast_registry_external: str | None = Field(None, validation_alias="ASSAY_FEAST_REGISTRY")
    feast_online_external: str | None = Field(None, validation_alias="ASSAY_FEAST_ONLINE")

    @field_validator("alerts")
    @classmethod
    def refuse_alerts_that_are_none(cls, value: SecretStr | None) -> SecretStr | None:
        """Only the form: whether an address is one, Apprise knows, which takes too long to import for every command."""
        if value is not None:
            alert_entries(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def refuse_mixes_that_cannot_work(self) -> Self:
        """Names every missing address at once; nothing falls back to another environment."""
        schema_prefix(self.environment)
        external = self._external_parts()
        if self.environment == "production":
            missing = [v for part, v in PRODUCTION_VARIABLES.items() if not external.get(part)]
            if missing:
                raise AssayError(
                    f"ASSAY_ENV=production needs an address for every part; not set: {', '.join(missing)}",
                    "set them all, or unset ASSAY_ENV to run everything on this machine",
                )
        lake_set = [v for part, v in LAKE_VARIABLES.items() if external[part]]
        lake_unset = [v for part, v in LAKE_VARIABLES.items() if not external[part]]
        if lake_set and lake_unset:
            raise AssayError(
                f"External: {', '.join(lake_set)}; not set: {', '.join(lake_unset)}. Engines, catalog and storage of one lake "
                "must reach the same files",
                f"set {', '.join(lake_unset)} as well, or unset {', '.join(lake_set)}",
            )
        return self

    def _external_parts(self) -> dict[str, bool]:
        ours = {name.strip() for name in self.embedded_exports.split(",")}
        values = {
            "spark": self.spark_remote_external,
            "trino": self.trino_host_external,
            "clickhouse": self.clickhouse_host_external,
            "clickhouse-password": self.clickhouse_password_external,
            "mlflow": self.mlflow_external,
            "catalog": self.catalog_external,
            "storage": self.warehouse_external,
            "ledger": self.ledger_external,
            "feast-registry": self.feast_registry_external,
            "feast-online": self.feast_online_external,
        }
        return {part: bool(value) and part not in ours for part, value in values.items()}

    def is_external(self, part: str) -> bool:
        """Whether a part (a key of `PRODUCTION_VARIABLES`) is somebody else's; else it lives under `home`."""
        return self._external_parts()[part]

    # Where things live under the home ---------------------------------------------------------------------------------
    @property
    def services_dir(self) -> Path:
        return self.home / "services"

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def archive(self) -> Path:
        return self.home / "archive"

    @property
    def clickhouse_dir(self) -> Path:
        return self.home / "clickhouse"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def dbt_target(self) -> Path:
        return self.home / "dbt"

    # Addresses --------------------------------------------------------------------------------------------------------
    def port(self, service: Service) -> int:
        """The port of an embedded service.

        Raises:
            AssayError: the services of this home were never started.
        """
        file = self.services_dir / "addresses.json"
        if not file.exists():
            raise AssayError(
                f"The services of {self.home} were never started, so {service} has no address", "run ./assay up"
            )
        return json.loads(file.read_text())[service]

    @property
    def spark_remote(self) -> str:
        """The address of Spark Connect, `sc://host:port`."""
        if self.is_external("spark"):
            return str(self.spark_remote_external)
        return f"sc://127.0.0.1:{self.port('spark')}"

    @property
    def trino_address(self) -> tuple[str, int]:
        if self.is_external("trino"):
            return str(self.trino_host_external), self.trino_port_external
        return "127.0.0.1", self.port("trino")

    @property
    def clickhouse_address(self) -> tuple[str, int]:
        if self.is_external("clickhouse"):
            return str(self.clickhouse_host_external), self.clickhouse_port_external
        return "127.0.0.1", self.port("clickhouse")

    @property
    def clickhouse_password(self) -> str:
        """The password; an embedded server's is made by `./assay up` and readable by its owner only."""
        if self.is_external("clickhouse"):
            return self.clickhouse_password_external.get_secret_value() if self.clickhouse_password_external else ""
        file = self.services_dir / "clickhouse.password"
        if not file.exists():
            raise AssayError(
                f"The services of {self.home} were never started, so ClickHouse has no password", "run ./assay up"
            )
        return file.read_text().strip()

    @property
    def mlflow_tracking_uri(self) -> str:
        if self.is_external("mlflow"):
            return str(self.mlflow_external)
        return f"http://127.0.0.1:{self.port('mlflow')}"

    @property
    def catalog_file(self) -> Path:
        """The SQLite file of the embedded Iceberg catalog."""
        return self.home / "catalog.db"

    @property
    def warehouse_uri(self) -> str:
        return str(self.warehouse_external) if self.is_external("storage") else f"file://{self.home}/warehouse"

    @property
    def ledger_url(self) -> str:
        """An SQLAlchemy URL."""
        return str(self.ledger_external) if self.is_external("ledger") else f"sqlite:///{self.home}/ledger.db"

    @property
    def feast_registry(self) -> str:
        """An SQLAlchemy URL."""
        return (
            str(self.feast_registry_external)
            if self.is_external("feast-registry")
            else f"sqlite:///{self.home}/feast/registry.db"
        )

    @property
    def feast_online(self) -> str:
        """A Redis connection string if external, else the path of an SQLite file."""
        return str(self.feast_online_external) if self.is_external("feast-online") else f"{self.home}/feast/online.db"

    def iceberg_catalog_properties(self) -> dict[str, str]:
        """What PyIceberg's `load_catalog` wants."""
        if self.is_external("catalog"):
            return {"type": "rest", "uri": str(self.catalog_external), "warehouse": self.warehouse_uri}
        return {"type": "sql", "uri": f"sqlite:///{self.catalog_file}", "warehouse": self.warehouse_uri}

    @property
    def analyst(self) -> str:
        """The environment in which a person's own dbt builds: `dev_<user>` beside a shared one, else the environment itself.

        Raises:
            AssayError: nobody knows who that person is.
        """
        if self.environment not in UNPREFIXED:
            return self.environment
        try:
            return f"dev_{self.user or getpass.getuser()}"
        except (KeyError, OSError):
            raise AssayError(
                f"The user {os.getuid()} has no name here, so their schemas have none", "set ASSAY_USER"
            ) from None

    def table(self, layer: str, table: str) -> PhysicalName:
        """`physical_name` in this environment."""
        return physical_name(self.environment, layer, table)


def load(home: Path | None = None) -> Settings:
    """Reads the settings of a home: the environment first, then what the home's `settings.env` keeps (the demo's clock).

    Raises:
        AssayError: a value cannot be read, or the addresses do not fit together.
    """
    where = home or home_from_environment()
    try:
        return Settings(_env_file=where / "settings.env", home=where)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the settings"
        raise AssayError(
            f"{name} is {first.get('input')!r}: {first['msg']}", f"correct {name} in the environment"
        ) from error
