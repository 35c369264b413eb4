"""What is loaded by every command is loaded quickly: no engine, no model library."""

import json
import os
import subprocess
import sys

from foundation.settings import PROJECT, Settings

# They take seconds to import, and the graph is loaded by every command.
HEAVY = ("pyspark", "mlflow", "feast", "lightgbm", "sklearn", "pandas", "pyarrow", "pyiceberg", "great_expectations")


def loaded_modules(statement: str, settings: Settings) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "ASSAY_HOME": str(settings.home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_loading_the_graph_imports_no_engine(set_up: Settings) -> None:
    modules = loaded_modules("import orchestrator.definitions", set_up)
    assert "dagster" in modules
    assert sorted(modules & set(HEAVY)) == []


def test_the_command_line_starts_without_dagster(set_up: Settings) -> None:
    modules = loaded_modules("import orchestrator.cli.main", set_up)
    assert "typer" in modules
    assert sorted(modules & {"dagster", "dagster_dbt", "dbt", "sqlalchemy", *HEAVY}) == []
