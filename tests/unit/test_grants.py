"""What an analyst may do on real engines, as text; the embedded Trino obeys the rules in tests/integration/test_analyst."""

import json
from pathlib import Path

import pytest

from deploy.embedded import analysts
from deploy.grants import clickhouse_grants, trino_rules
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.cli.grants import grants_of


def decided(rules: list[dict], user: str, schema: str) -> dict:
    """The rule that Trino would take: the first whose patterns match whole."""
    import re

    return next(
        rule
        for rule in rules
        if re.fullmatch(rule.get("user", ".*"), user) and re.fullmatch(rule.get("schema", ".*"), schema)
    )


@pytest.mark.parametrize(
    ("user", "schema", "writes"),
    [
        ("assay", "gold", True),
        ("assay", "dev_ana__gold", True),
        ("ana", "gold", False),
        ("ana", "dev_ana__gold", True),
        ("ana", "dev_ana_b__gold", False),
        ("ana", "dev_bob__gold", False),
        ("ana", "xdev_ana__gold", False),
        ("anabel", "dev_ana__gold", False),
        ("somebody", "gold", False),
    ],
)
def test_an_analyst_writes_schemas_of_their_own_prefix_only(user: str, schema: str, writes: bool) -> None:
    rules = trino_rules(["assay"], {"ana": "dev_ana__", "bob": "dev_bob__"})
    assert decided(rules["schemas"], user, schema)["owner"] is writes
    privileges = decided(rules["tables"], user, schema)["privileges"]
    assert "SELECT" in privileges
    assert ("INSERT" in privileges, "OWNERSHIP" in privileges) == (writes, writes)


def test_clickhouse_grants_write_nothing_that_is_shared() -> None:
    statements = clickhouse_grants("ana", "dev_ana__")
    writing = [one for one in statements if any(word in one for word in ("insert", "alter", "drop", "truncate"))]
    assert writing
    assert all(" on `dev_ana__" in one for one in writing)


def test_grants_are_printed_for_a_persons_own_prefix(settings: Settings) -> None:
    text = "\n".join(grants_of(settings, "Ana B."))
    assert "`dev_ana_b__warehouse`" in text
    rules = json.loads("\n".join(grants_of(settings, "ana", "trino")))
    assert rules["schemas"][1] == {"user": "ana", "catalog": "lake", "schema": "dev_ana__.*", "owner": True}
    with pytest.raises(AssayError, match="no grants"):
        list(grants_of(settings, "ana", "spark"))


def test_an_admitted_analyst_stays_when_the_rules_are_written_again(settings: Settings, tmp_path: Path) -> None:
    for user in ("ana", "bob", "ana"):
        analysts.admit(settings, f"dev_{user}")
    rules = json.loads(analysts.write_rules(settings).read_text())
    assert [rule.get("user") for rule in rules["schemas"]] == ["assay", "dev_ana", "dev_bob", None]
