"""What a comparison says of a table that is as the branch began with it: it shows nothing of a change."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from deploy.embedded.programs import make_catalog
from foundation.settings import Settings, branch_settings, load_base
from orchestrator.cli.comparison import Compared, lines, made_in, markdown_table


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    make_catalog(tmp_path / "catalog.db")
    made = branch_settings(load_base(), "pr-42")
    made.dagster_home.mkdir(parents=True)
    return made


@pytest.mark.parametrize(("minutes", "made"), [(-1, {"gold/facts"}), (1, set[str]())])
def test_what_the_bases_history_made_was_not_made_in_the_branch(branch: Settings, minutes: int, made: set[str]) -> None:
    created = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")
    (branch.home / "branch.json").write_text(json.dumps({"branch": "pr-42", "state": "ready", "created": created}))
    with dg.DagsterInstance.from_config(str(branch.dagster_home)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["gold", "facts"])))
        instance.report_runless_asset_event(dg.AssetObservation(dg.AssetKey(["gold", "seen"])))
    assert made_in(branch, ["gold/facts", "gold/seen", "gold/never"]) == made


def test_equal_rows_of_a_table_that_no_run_made_are_not_shown_as_a_result() -> None:
    unmade, same = Compared("gold/a", 3, 3, made=False), Compared("gold/b", 3, 3)
    other = Compared("gold/c", 3, 3, differ=1, columns={"n": 1}, made=False)  # by hand, say
    assert [line.endswith("no run made it in the branch") for line in lines([unmade, same])] == [True, False]
    assert [line.count("no run made it") for line in markdown_table([unmade, same, other])][1:4] == [1, 0, 0]
