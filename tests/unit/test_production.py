"""The production deployment's configuration is what Dagster and its libraries take, and its variables are written down."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._serdes.config_class import class_from_code_pointer

from deploy.embedded.programs import DAGSTER_YAML
from foundation.settings import PRODUCTION_VARIABLES, PROJECT

FOLDER = PROJECT / "deploy" / "production"
CLASSES = ("run_storage_data", "event_storage_data", "schedule_storage_data", "run_launcher_data", "compute_logs_data")


def variables(value: Any) -> Iterator[str]:
    """Every `{env: NAME}` in a configuration."""
    if isinstance(value, dict):
        if set(value) == {"env"}:
            yield value["env"]
        for item in value.values():
            yield from variables(item)
    elif isinstance(value, list):
        for item in value:
            yield from variables(item)


def configuration() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "dagster.yaml").read_text())


def listed(heading: str) -> set[str]:
    """The variables in the table below a heading of the README."""
    section = (FOLDER / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def errors_of(folder: Path) -> dict[str, list[str]]:
    """What is wrong with an instance's configuration, by the part; Dagster's own check looks at no class's part."""
    ref = InstanceRef.from_dir(str(folder))
    found: dict[str, list[str]] = {}
    for name in CLASSES:
        data = getattr(ref, name)
        assert isinstance(data, ConfigurableClassData), name
        known: Any = class_from_code_pointer(data.module_name, data.class_name)
        assert issubclass(known, ConfigurableClass)
        result = process_config(resolve_to_config_type(known.config_type()), data.config_dict)
        found[name] = [error.message for error in result.errors or []]
    return found


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables(configuration()):
        monkeypatch.setenv(name, "somewhere")


def test_dagster_and_its_libraries_take_it(addresses: None) -> None:
    value, _ = dagster_instance_config(str(FOLDER))
    assert value["run_monitoring"]["enabled"]
    assert errors_of(FOLDER) == {name: [] for name in CLASSES}


def test_its_state_runs_and_logs_are_not_files(addresses: None) -> None:
    ref = InstanceRef.from_dir(str(FOLDER))
    classes = {name: getattr(ref, name).class_name for name in CLASSES}
    assert classes == {
        "run_storage_data": "PostgresRunStorage",
        "event_storage_data": "PostgresEventLogStorage",
        "schedule_storage_data": "PostgresScheduleStorage",
        "run_launcher_data": "K8sRunLauncher",
        "compute_logs_data": "S3ComputeLogManager",
    }


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("service_account_name:", "service_acount_name:", "run_launcher_data"),
        ("bucket:", "buckets:", "compute_logs_data"),
    ],
)
def test_a_mistake_in_a_class_is_found(addresses: None, tmp_path: Path, old: str, new: str, part: str) -> None:
    (tmp_path / "dagster.yaml").write_text((FOLDER / "dagster.yaml").read_text().replace(old, new))
    assert errors_of(tmp_path)[part]


def test_a_mistake_outside_of_classes_is_found(addresses: None, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((FOLDER / "dagster.yaml").read_text().replace("run_retries:", "run_retrys:"))
    with pytest.raises(DagsterInvalidConfigError):
        dagster_instance_config(str(tmp_path))


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    assert any("ASSAY_LOGS_BUCKET" in error for error in errors_of(FOLDER)["compute_logs_data"])


def test_each_variable_is_listed_and_each_listed_one_is_used() -> None:
    assert listed("Variables of dagster.yaml") == set(variables(configuration()))


def test_all_that_production_demands_of_the_platform_is_listed() -> None:
    assert listed("Variables of the platform") == {
        *PRODUCTION_VARIABLES.values(),
        *("ASSAY_ENV", "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"),
    }


def test_the_operators_page_leads_here() -> None:
    assert "deploy/production/README.md" in (PROJECT / "docs" / "operator.md").read_text()


def test_a_table_has_one_writer_as_at_home() -> None:
    at_home = yaml.safe_load(DAGSTER_YAML)
    assert configuration()["concurrency"]["pools"] == at_home["concurrency"]["pools"]


def test_no_password_stands_in_it() -> None:
    assert isinstance(configuration()["storage"]["postgres"]["postgres_db"]["password"], dict)
