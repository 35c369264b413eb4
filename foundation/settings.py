"""Every setting of the platform, read once from the environment and the home's `settings.env`.

Belongs here: addresses, paths, the environment's name, and which mixes of them cannot work. Does not belong here: how a
service is started (deploy/embedded) or used.

A service whose address is set is external; otherwise it is embedded and its address is what `./assay up` wrote to
`<home>/services/addresses.json`. `./assay env` exports embedded addresses for plain tools and says so in
`ASSAY_EMBEDDED`, so that they are not taken for external ones.

`ASSAY_ENV=branch` with ASSAY_BRANCH is an environment named after the branch, in a home of its own below its base's; the
services are the base's (docs/decisions/0022-branch-environments.md).
"""

import getpass
import json
import os
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from foundation.errors import AssayError
from foundation.names import CATALOG, UNPREFIXED, PhysicalName, branch_catalog, physical_name, schema_prefix, slug

PROJECT = Path(__file__).resolve().parents[1]
# How the variables begin that name a home, an address or what else the platform and its engines go by.
VARIABLES = ("ASSAY_", "DAGSTER_", "DBT_", "SPARK_", "TRINO_", "CLICKHOUSE_", "MLFLOW_", "ICEBERG_", "FEAST_")
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
        AssayError: an entry is not `owner=address`, or a path depends on where a process was started. The message holds no
            entry: an address has passwords. Whether the file is there is not asked: a lost one must not end runs.
    """
    if "://" not in value:
        if not Path(value).expanduser().is_absolute():
            raise AssayError(
                "ASSAY_ALERTS holds no address, and it is no absolute path either",
                "write owner=address, such as team:operations=mailtos://user:password@host?to=ops@example.org, or the absolute "
                "path of an Apprise configuration file",
            )
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


# What ASSAY_ENV says of a branch; its own name is in ASSAY_BRANCH.
BRANCH = "branch"
# In ASSAY_EMBEDDED: the users that `./assay env` exported are a branch's, not the base's.
BRANCH_USERS = "branch-users"


def home_from_environment() -> Path:
    """`ASSAY_HOME`, or `.assay` in the project."""
    return Path(os.environ.get("ASSAY_HOME") or PROJECT / ".assay").expanduser().resolve()


def base_from_environment() -> Path:
    """The home whose services and tables a branch uses: `ASSAY_BASE`, or the one used without a branch."""
    base = os.environ.get("ASSAY_BASE")
    return Path(base).expanduser().resolve() if base else home_from_environment()


class Settings(BaseSettings):
    """The typed settings. Build with `load()`, which turns mistakes into messages for people."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    environment: str = Field("local", validation_alias="ASSAY_ENV")
    user: str = Field("", validation_alias="ASSAY_USER")
    home: Path = Field(default_factory=home_from_environment)
    # The base's home inside a branch; None outside of one.
    base: Path | None = None
    # A look at a home that must not change it: `base_settings`.
    read_only: bool = False
    # Where the password of the embedded ClickHouse is, if not where `./assay up` puts it: a branch is a user of its own.
    clickhouse_secret: Path | None = None
    cache: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay",
        validation_alias="ASSAY_CACHE",
    )
    now: datetime | None = Field(None, validation_alias="ASSAY_NOW")
    embedded_exports: str = Field("", validation_alias="ASSAY_EMBEDDED")
    # Who is told of problems, and where; see docs/operator.md.
    alerts: SecretStr | None = Field(None, validation_alias="ASSAY_ALERTS")
    # Whether a month's training set and model are made when all that they learn from is there; see docs/ml.md.
    training: Literal["by-hand", "automatic"] = Field("by-hand", validation_alias="ASSAY_TRAINING")

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
        if self.environment == BRANCH:
            raise AssayError(
                "ASSAY_ENV=branch stands in a settings.env", "set it in the environment, with ASSAY_BRANCH"
            )
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
        """What `./assay up` keeps of the running services; a branch uses its base's."""
        return (self.base or self.home) / "services"

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
                f"The services of {self.base or self.home} were never started, so {service} has no address",
                "run ./assay up",
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
        file = self.clickhouse_secret or self.services_dir / "clickhouse.password"
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
        return str(self.ledger_external) if self.is_external("ledger") else self._sqlite(self.home / "ledger.db")

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
        own = {"type": "sql", "uri": self._sqlite(self.catalog_file), "warehouse": self.warehouse_uri}
        return own | {"init_catalog_tables": "false"} if self.read_only else own

    def _sqlite(self, file: Path) -> str:
        return f"sqlite:///file:{file}?mode=ro&uri=true" if self.read_only else f"sqlite:///{file}"

    @property
    def catalog(self) -> str:
        """The Iceberg catalog, as Spark, Trino and PyIceberg call it: a branch has its own."""
        return branch_catalog(self.environment) if self.base else CATALOG

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
        return replace(physical_name(self.environment, layer, table), catalog=self.catalog)


def load(home: Path | None = None) -> Settings:
    """Reads the settings of a home: the environment first, then what the home's `settings.env` keeps (the demo's clock).
    With ASSAY_ENV=branch, those of the branch in ASSAY_BRANCH, whose base is ASSAY_BASE or that home.

    Raises:
        AssayError: a value cannot be read, or the addresses or the variables of a branch do not fit together.
    """
    where = home or home_from_environment()
    named = {name: os.environ.get(name, "") for name in ("ASSAY_BRANCH", "ASSAY_BASE")}
    if os.environ.get("ASSAY_ENV", "") != BRANCH:
        if extra := [name for name, value in named.items() if value]:
            raise AssayError(
                f"{' and '.join(extra)} set, but ASSAY_ENV is {os.environ.get('ASSAY_ENV') or 'not set'}",
                f"set ASSAY_ENV={BRANCH} as well, or unset {' and '.join(extra)}",
            )
        return _refuse_branchs_name(_read(where))
    base = base_from_environment() if named["ASSAY_BASE"] else where
    problems = _branch_problems(named["ASSAY_BRANCH"], base)
    if problems:
        raise AssayError(f"ASSAY_ENV={BRANCH}: {'; '.join(what for what, _ in problems)}", problems[0][1])
    found = branch_settings(load_base(base), named["ASSAY_BRANCH"])
    record = branch_record(found)
    asked = found.environment
    if record.get("branch") not in (None, asked):
        raise AssayError(
            f"The branch {asked!r} would have the names of {record['branch']!r}, which is there already: {found.home}",
            f"set ASSAY_BRANCH={record['branch']} if you mean that one, or give yours another name",
        )
    match record.get("state"):
        case "ready":
            return found
        case "dropping":
            raise AssayError(
                f"The branch {asked} is being dropped, or was half-way", f"run ./assay branch drop {asked}"
            )
        case None:
            raise AssayError(
                f"{base} has no branch {asked}: it was never created, or dropped",
                f"run ./assay branch create {asked}; to work without a branch: unset ASSAY_ENV ASSAY_BRANCH ASSAY_BASE",
            )
        case _:
            raise AssayError(
                f"The branch {asked} is being created, or was half-way (its home is {found.home})",
                f"run ./assay branch create {asked}",
            )


def _refuse_branchs_name(settings: Settings) -> Settings:
    """Half of a branch's variables: ASSAY_ENV=pr-42 would build, as the base's own user, what has the names of the branch
    pr-42; a branch's home alone, which stays of `./assay env`, would be taken for a home with services of its own."""
    if own := branch_record(settings):
        raise AssayError(
            f"{settings.home} is the home of the branch {own['branch']}, and ASSAY_ENV is not {BRANCH}",
            f"open a new shell, or set ASSAY_HOME to the base's home, {settings.home.parents[1]}",
        )
    if settings.environment not in UNPREFIXED:
        file = settings.home / "branches" / slug(settings.environment) / "branch.json"
        if file.exists():
            name = json.loads(file.read_text())["branch"]
            raise AssayError(
                f"ASSAY_ENV={settings.environment} has the names of the branch {name} of {settings.home}",
                f"set ASSAY_ENV={BRANCH} ASSAY_BRANCH={name} for the branch, or ASSAY_ENV to another name",
            )
    return settings


def load_base(home: Path | None = None) -> Settings:
    """The settings of a branch's base, as its own people have them; those of `load` outside of a branch.

    Raises:
        AssayError: as of `load`, or engines or catalog are not the home's own: only a home can be a base for now.
    """
    settings = _read(home or base_from_environment(), outside_branch=True)
    if settings.environment not in UNPREFIXED:
        raise AssayError(
            f"A branch's base must be a whole home; ASSAY_ENV is {settings.environment!r}, a part of one",
            "unset ASSAY_ENV",
        )
    external = [variable for part, variable in PRODUCTION_VARIABLES.items() if settings.is_external(part)]
    if external:
        raise AssayError(
            f"A branch's base must be a home with embedded services; external here: {', '.join(external)}",
            f"unset {', '.join(external)}",
        )
    return settings


def base_settings(settings: Settings) -> Settings:
    """A look at the base of a branch that every engine and file refuses to write through: the user of Trino and
    ClickHouse is the branch's, the catalog and the ledger are opened read-only.

    Raises:
        AssayError: these settings are no branch's.
    """
    if settings.base is None:
        raise AssayError(
            f"{settings.environment} is no branch, so it has no base", f"set ASSAY_ENV={BRANCH} and ASSAY_BRANCH"
        )
    base = load_base(settings.base)
    return base.model_copy(
        update={
            "read_only": True,
            "now": settings.now,
            "trino_user": settings.trino_user,
            "clickhouse_user": settings.clickhouse_user,
            "clickhouse_secret": settings.clickhouse_secret,
        }
    )


def branch_settings(base: Settings, branch: str) -> Settings:
    """The settings of a branch, whether it was created or not.

    Args:
        base: its base, from `load_base`.
        branch: its name, such as `pr-42`.

    Raises:
        AssayError: no branch can have this name.
    """
    name = slug(branch)
    if not name or branch in (*UNPREFIXED, BRANCH) or name in (*UNPREFIXED, BRANCH):
        raise AssayError(
            f"A branch cannot be called {branch!r}", "give it another name, with a letter or digit, such as pr-42"
        )
    home = base.home / "branches" / name
    # Who it is to Trino and ClickHouse: their rules know which schemas begin with this name.
    user = schema_prefix(branch).removesuffix("__")
    found = _read(home, base=base.home, ASSAY_ENV=branch, TRINO_USER=user, CLICKHOUSE_USER=user)
    return found.model_copy(update={"clickhouse_secret": home / "clickhouse.password"})


def branch_record(settings: Settings) -> dict[str, str]:
    """What the branch's home says of it: `branch`, `state` (creating, ready, dropping), `created`; empty if there is none."""
    file = settings.home / "branch.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _branch_problems(branch: str, base: Path) -> list[tuple[str, str]]:
    """All that is wrong with the variables of a branch: what, and what to do."""
    found: list[tuple[str, str]] = []
    if not branch:
        found.append(("ASSAY_BRANCH is not set", "set ASSAY_BRANCH to the branch's name, such as pr-42"))
    if (base / "branch.json").exists():
        found.append((f"its base {base} is a branch's home itself", "set ASSAY_BASE to a home that is no branch"))
    elif not (base / "catalog.db").exists():
        found.append(
            (f"its base {base} is no home with tables", "run ./assay up there, or set ASSAY_BASE to the base's home")
        )
    return found


def _read(where: Path, base: Path | None = None, outside_branch: bool = False, **given: str) -> Settings:
    if outside_branch and os.environ.get("ASSAY_ENV") == BRANCH:
        given["ASSAY_ENV"] = "local"
    if outside_branch and BRANCH_USERS in os.environ.get("ASSAY_EMBEDDED", ""):
        given |= {"TRINO_USER": "assay", "CLICKHOUSE_USER": "default"}
    try:
        return Settings(_env_file=where / "settings.env", home=where, base=base, **given)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the settings"
        raise AssayError(
            f"{name} is {first.get('input')!r}: {first['msg']}", f"correct {name} in the environment"
        ) from error
