"""What a branch environment is made of: its variables, and which of them cannot go together."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from deploy.embedded.programs import make_catalog
from foundation import settings as settings_module
from foundation.errors import AssayError
from foundation.lake import open_catalog
from foundation.lock import writer_lock
from foundation.settings import Settings, base_settings, branch_settings, load, load_base
from orchestrator.cli import branch


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that was started, and is the one used without a branch."""
    home = tmp_path / "home"
    (home / "services").mkdir(parents=True)
    (home / "services" / "addresses.json").write_text(
        json.dumps({"spark": 1, "trino": 2, "clickhouse": 3, "mlflow": 4})
    )
    (home / "services" / "clickhouse.password").write_text("base's\n")
    make_catalog(home / "catalog.db")
    monkeypatch.setenv("ASSAY_HOME", str(home))
    return home


def created(base: Path, branch: str, state: str = "ready") -> Path:
    home = branch_settings(load_base(base), branch).home
    home.mkdir(parents=True)
    (home / "branch.json").write_text(json.dumps({"branch": branch, "state": state}))
    (home / "clickhouse.password").write_text("own\n")
    return home


def be(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_branch_has_its_own_names_and_home_and_the_services_of_its_base(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = created(base, "pr-42")
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-42")
    settings = load()
    assert (settings.environment, settings.base, settings.home) == ("pr-42", base, home)
    assert str(settings.table("gold", "facts")) == "lake_pr_42.pr_42__gold.facts"
    assert settings.trino_address == ("127.0.0.1", 2)
    assert settings.ledger_url == f"sqlite:///{base}/branches/pr_42/ledger.db"
    assert (settings.clickhouse_user, settings.clickhouse_password) == ("pr_42", "own")


def test_the_base_is_what_it_would_be_without_the_branch_but_read_only(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(base, "pr-42")
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-42")
    look = base_settings(load())
    assert (look.environment, look.home, look.base) == ("local", base, None)
    assert str(look.table("gold", "facts")) == "lake.gold.facts"
    assert (look.trino_user, look.clickhouse_password) == ("pr_42", "own")
    with pytest.raises(AssayError, match="only read here"), writer_lock(look, "silver.events"):
        pass
    with pytest.raises(Exception, match="readonly database"):
        open_catalog(look).create_namespace("bad")


def test_outside_a_branch_there_is_no_base(base: Path) -> None:
    assert load().base is None
    with pytest.raises(AssayError, match="no base"):
        base_settings(load())


def test_a_persons_environment_is_prefixed_schemas_in_one_home(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, ASSAY_ENV="dev_ana")
    assert load().home == base
    assert str(load().table("gold", "facts")) == "lake.dev_ana__gold.facts"


def test_a_half_set_branch_names_all_that_is_missing(
    base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BASE=str(tmp_path / "nowhere"))
    with pytest.raises(AssayError, match=r"ASSAY_BRANCH is not set; its base .*nowhere is no home"):
        load()


@pytest.mark.parametrize("environment", ["", "dev_ana"])
def test_a_branchs_variables_without_a_branch_are_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    be(monkeypatch, ASSAY_ENV=environment, ASSAY_BRANCH="pr-42", ASSAY_BASE=str(base))
    with pytest.raises(AssayError, match="ASSAY_BRANCH and ASSAY_BASE set, but ASSAY_ENV is"):
        load()


def test_a_branch_that_was_never_created_says_what_to_type(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-42")
    with pytest.raises(AssayError, match="never created") as caught:
        load()
    assert "./assay branch create pr-42" in caught.value.next_action


@pytest.mark.parametrize("state", ["creating", "dropping"])
def test_a_branch_left_half_way_is_not_used(base: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    created(base, "pr-42", state)
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-42")
    with pytest.raises(AssayError, match="half-way"):
        load()


def test_a_branch_whose_names_would_be_anothers_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created(base, "pr-42")
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="PR_42")
    with pytest.raises(AssayError, match="would have the names of 'pr-42'"):
        load()


@pytest.mark.parametrize("name", ["pr-42", "PR_42"])
def test_a_branchs_name_is_nobody_elses_environment(base: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    created(base, "pr-42")
    be(monkeypatch, ASSAY_ENV=name)
    with pytest.raises(AssayError, match="has the names of the branch pr-42") as caught:
        load()
    assert "ASSAY_ENV=branch ASSAY_BRANCH=pr-42" in caught.value.next_action


def test_a_branchs_home_alone_is_no_home(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, ASSAY_HOME=str(created(base, "pr-42")))
    with pytest.raises(AssayError, match="is the home of the branch pr-42") as caught:
        load()
    assert str(base) in caught.value.next_action


def test_a_branch_is_no_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-43", ASSAY_BASE=str(created(base, "pr-42")))
    with pytest.raises(AssayError, match="is a branch's home itself"):
        load()


@pytest.mark.parametrize("name", ["local", "production", "Production", "branch", "--"])
def test_names_that_mean_something_else_are_no_branch(base: Path, name: str) -> None:
    with pytest.raises(AssayError, match="cannot be called"):
        branch_settings(load_base(base), name)


def test_a_base_with_external_engines_is_refused_by_name(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created(base, "pr-42")
    be(monkeypatch, ASSAY_ENV="branch", ASSAY_BRANCH="pr-42", MLFLOW_TRACKING_URI="http://elsewhere:1")
    with pytest.raises(AssayError, match="MLFLOW_TRACKING_URI"):
        load()


def test_a_settings_file_cannot_make_a_branch(base: Path) -> None:
    (base / "settings.env").write_text("ASSAY_ENV=branch\n")
    with pytest.raises(AssayError, match="set it in the environment"):
        settings_module.load()


def test_a_branch_that_cannot_be_dropped_keeps_no_older_one_alive(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime(2013, 1, 1, tzinfo=UTC)
    branches = [settings.model_copy(update={"environment": name}) for name in ("pr-1", "pr-2", "pr-3")]
    monkeypatch.setattr(branch, "_known", lambda base: [(one, made) for one in branches])
    dropped: list[str] = []

    def drop(base: Settings, name: str, console: Console) -> None:
        if name == "pr-2":
            raise AssayError("pr-2 is being built", "wait for it")
        dropped.append(name)

    monkeypatch.setattr(branch, "drop", drop)
    with pytest.raises(AssayError, match="Not dropped: pr-2: pr-2 is being built"):
        branch.drop_old(settings, "14d", Console(file=io.StringIO()))
    assert dropped == ["pr-1", "pr-3"]
