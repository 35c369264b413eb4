"""What `./assay env` exports describes the same home again, so that exporting it twice changes nothing."""

import json
import os
from pathlib import Path

import pytest

from deploy.embedded.environment import exports, with_first
from foundation.errors import AssayError
from foundation.settings import Settings, load

PORTS = {"spark": 20001, "trino": 20002, "clickhouse": 20003, "mlflow": 20004, "dagster": 20005, "dagster-code": 20006}
ADDRESSES = (
    "spark_remote",
    "trino_address",
    "clickhouse_address",
    "clickhouse_password",
    "mlflow_tracking_uri",
    "warehouse_uri",
    "ledger_url",
    "feast_registry",
    "feast_online",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose services were started once, in an environment that says nothing else."""
    for name in list(os.environ):
        if name.split("_")[0] in ("ASSAY", "SPARK", "TRINO", "CLICKHOUSE", "MLFLOW", "ICEBERG", "DAGSTER"):
            monkeypatch.delenv(name)
    services = tmp_path / "services"
    services.mkdir()
    (services / "addresses.json").write_text(json.dumps(PORTS))
    (services / "clickhouse.password").write_text("secret\n")
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    return tmp_path


def apply(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load()


def test_exported_addresses_are_read_back_as_embedded_ones(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load()
    again = apply(exports(before), monkeypatch)
    assert not [part for part, external in again._external_parts().items() if external]
    for address in ADDRESSES:
        assert getattr(again, address) == getattr(before, address)
    assert again.iceberg_catalog_properties() == before.iceberg_catalog_properties()
    assert exports(again) == exports(before)


def test_another_home_in_a_shell_with_exports_has_its_own_addresses(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(exports(load()), monkeypatch)
    other = tmp_path_factory.mktemp("other")
    (other / "services").mkdir()
    (other / "services" / "addresses.json").write_text(json.dumps(PORTS | {"spark": 21001}))
    monkeypatch.setenv("ASSAY_HOME", str(other))
    assert load().spark_remote == "sc://127.0.0.1:21001"
    assert str(other) in load().warehouse_uri


def test_an_external_address_stays_external(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    again = apply(exports(load()), monkeypatch)
    assert again.is_external("mlflow")
    assert again.mlflow_tracking_uri == "http://mlflow.example:5000"
    assert "mlflow" not in exports(again)["ASSAY_EMBEDDED"].split(",")


def test_a_branch_keeps_its_prefix_and_its_clock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_ENV", "pr-42")
    monkeypatch.setenv("ASSAY_NOW", "2013-07-01T00:00:00+00:00")
    variables = exports(load())
    assert variables["ASSAY_SCHEMA_PREFIX"] == "pr_42__"
    assert variables["ASSAY_NOW"] == "2013-07-01T00:00:00+00:00"


def test_a_home_that_was_never_started_has_nothing_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    with pytest.raises(AssayError, match="never started"):
        exports(load())


def test_a_search_path_holds_an_entry_once_and_first() -> None:
    assert with_first("/a", "/b:/a:/c") == "/a:/b:/c"
    assert with_first("/a", "") == "/a"
