"""Names: one address a table and environment, which no engine misreads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import AssayError
from foundation.names import LAYERS, physical_name, schema_prefix

# What each of the engines reads without quotes.
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
# What people and CI call environments: anything, but with a letter first.
ENVIRONMENTS = st.one_of(
    st.sampled_from(["production", "Production", "local", "pr-42", "pr_42", "dev_ana", "Feature/Späte-Flüge", "x"]),
    st.builds("{}{}".format, st.sampled_from("abcXYZ"), st.text("abXY019-_./ \"';äß中", max_size=12)),
)


@pytest.mark.parametrize("environment", ["production", "local"])
def test_production_and_home_use_the_plain_names(environment: str) -> None:
    assert str(physical_name(environment, "silver", "events")) == "lake.silver.events"


def test_a_branch_has_schemas_of_its_own() -> None:
    assert str(physical_name("pr-42", "silver", "events")) == "lake.pr_42__silver.events"
    assert physical_name("pr-42", "silver", "events").in_catalog == "pr_42__silver.events"


@given(ENVIRONMENTS)
def test_only_production_and_home_touch_the_plain_names(environment: str) -> None:
    plain = physical_name(environment, "gold", "event_facts").schema == "gold"
    assert plain == (environment in ("production", "local"))


@given(ENVIRONMENTS, ENVIRONMENTS, st.sampled_from(LAYERS), st.sampled_from(LAYERS))
def test_another_layer_or_environment_is_another_schema(one: str, other: str, layer: str, another: str) -> None:
    same = (schema_prefix(one), layer) == (schema_prefix(other), another)
    assert (physical_name(one, layer, "t") == physical_name(other, another, "t")) == same


@given(ENVIRONMENTS, st.sampled_from(LAYERS))
def test_a_schema_is_an_identifier_to_every_engine(environment: str, layer: str) -> None:
    assert IDENTIFIER.fullmatch(physical_name(environment, layer, "events").schema)


def test_a_branch_that_starts_with_a_digit_is_an_identifier_too() -> None:
    assert IDENTIFIER.fullmatch(physical_name("42-late-events", "silver", "events").schema)


@given(st.text("-_./ äé", min_size=1))
def test_a_name_without_letter_or_digit_is_refused(environment: str) -> None:
    with pytest.raises(AssayError, match="ASSAY_ENV"):
        schema_prefix(environment)


@given(st.text("goldsiverGOLD_. ", max_size=8).filter(lambda text: text not in LAYERS))
def test_an_unknown_layer_is_refused_naming_those_there_are(layer: str) -> None:
    with pytest.raises(AssayError) as refused:
        physical_name("local", layer, "events")
    assert "silver" in refused.value.next_action
