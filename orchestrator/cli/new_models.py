"""`./assay new mart` and `./assay new feature`: dbt's models and Feast's view, written for a person to edit.

Belongs here: which columns they have, and the YAML beside them. Does not belong here: SQL (dbt_project/templates), what a
view is (feature_repo/views). No engine is asked: columns and types come from contracts and from the YAML of models.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from foundation.contract import Contract, load_contracts
from foundation.errors import AssayError
from foundation.names import is_sql_word
from foundation.settings import PROJECT

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
MODELS = Path("dbt_project/models")
VIEWS = Path("feature_repo/views")
TEMPLATES = PROJECT / "dbt_project/templates"
# A type in Silver, in Gold (Trino) and in the warehouse (ClickHouse).
TRINO = {"string": "varchar", "int": "integer", "timestamp": "timestamp(6) with time zone"}
CLICKHOUSE = {
    "varchar": "String",
    "integer": "Int32",
    "bigint": "Int64",
    "double": "Float64",
    "boolean": "Bool",
    "date": "Date32",
    "timestamp(6) with time zone": "DateTime64(6, 'UTC')",
}
# What can be summed, on either engine.
NUMBER = re.compile(r"integer|bigint|double|U?Int\d+|Float\d+|[Dd]ecimal\(\d+, ?\d+\)")
WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
ID = re.compile(r"(^|_)(id|key|code|no|nr|num|number|uuid|year|month|hour)$")
AVAILABLE_AT = "available_at"
# A first mart or view is one to be cut and added to: of a wide table the first measures will do.
MEASURES = 4


@dataclass(frozen=True)
class Column:
    """A column of a model: its type there, what it says, whether every row has it."""

    name: str
    type: str
    description: str
    filled: bool


@dataclass(frozen=True)
class Model:
    """A model as its files declare it: `keys` and `day` from its SQL's config, the rest from its YAML."""

    name: str
    file: Path
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    day: str | None
    group: str

    def column(self, name: str, what: str) -> Column:
        """One of its columns.

        Raises:
            AssayError: there is none of that name.
        """
        found = {column.name: column for column in self.columns}
        if name not in found:
            near = get_close_matches(name, found, n=3) or list(found)
            raise AssayError(f"{self.name} has no column {name!r}", f"{what}: use one of {', '.join(near)}")
        return found[name]


@dataclass
class Written:
    """Files to write, by path below the project, and what to say of them."""

    force: bool
    project: Path
    files: dict[Path, str] = field(default_factory=dict)

    def add(self, path: Path, text: str) -> None:
        """Plans a file.

        Raises:
            AssayError: it is there, and nobody said --force; or a model elsewhere has its name.
        """
        if (self.project / path).exists() and not self.force:
            raise AssayError(f"{path} is there", "edit it, take another name, or write over it with --force")
        for other in (self.project / MODELS).rglob(path.name):
            if path.suffix == ".sql" and other != self.project / path:
                raise AssayError(
                    f"{other.relative_to(self.project)} is a model of that name, and dbt takes one of each",
                    "take another name",
                )
        self.files[path] = text

    def write(self) -> list[Path]:
        """All at once: nothing was written before everything was known."""
        for path, text in self.files.items():
            (self.project / path).parent.mkdir(parents=True, exist_ok=True)
            (self.project / path).write_text(text, encoding="utf-8")
        return list(self.files)


def new_mart(name: str, source: str, by: Sequence[str] = (), force: bool = False) -> list[Path]:
    """Writes a mart that counts and sums a table's rows, by day and by the columns named; and, where they are missing, the
    table's model in Gold and its staging view.

    Args:
        name: the mart; `mart_` goes in front.
        source: `gold/<model>`, or `silver/<feed>`, which becomes `gold/<feed>`.
        by: the columns to group by, besides the day; without them the first that seems to sort rows.
        force: write over the mart that is there.

    Returns:
        What was written, below the project.

    Raises:
        AssayError: a name is none, or there is no such table or column.
    """
    name = name if name.startswith("mart_") else f"mart_{name}"
    _check_name(name)
    written = Written(force, PROJECT)
    gold = _gold_of(source, written)
    staging = _staging_of(gold, written)
    groups = [staging.column(one, "--by") for one in dict.fromkeys(by)] if by else _sorts(staging)
    gaps = [column.name for column in groups if not column.filled]
    if gaps:
        raise AssayError(
            f"{', '.join(gaps)} of {staging.name} may be empty, and a mart's keys are not",
            f"group by others, or fill it in {staging.file}, as ifNull(…, 'unknown')",
        )
    names = [column.name for column in groups]
    keys = [*([staging.day] if staging.day and staging.day not in names else []), *names]
    if not keys:
        raise AssayError(f"{staging.name} has no column that every row has and that sorts rows", "name some with --by")
    measures = [
        {"name": column.name, "total": _total(column.type), "description": column.description}
        for column in _measures(staging, keys)
    ]
    rows = staging.name.removeprefix("stg_")
    sql = _render(
        "mart.sql", keys=keys, day=staging.day, order=[*names, *(key for key in keys if key not in names)],
        rows=rows, staging=staging.name, measures=measures,
    )  # fmt: skip
    columns = [
        *(staging.column(key, "--by") for key in keys),
        Column("number_of_rows", "UInt64", f"Rows of {rows}.", True),
    ]
    for one in measures:
        said = one["description"].rstrip(".") or one["name"]
        columns.append(Column(f"total_{one['name']}", one["total"], f"Sum: {said}.", False))
        columns.append(
            Column(f"mean_{one['name']}", "Nullable(Float64)", f"Mean: {said}; null without a value.", False)
        )
    by_what = " and ".join(key.replace("_", " ") for key in keys)
    checks = [("there_are_rows", "number_of_rows > 0")]
    yml = _model_yaml(
        name, f"{rows.replace('_', ' ').capitalize()} by {by_what}.", staging.group, keys, columns, checks
    )
    written.add(MODELS / f"warehouse/marts/{name}.sql", sql)
    written.add(MODELS / f"warehouse/marts/{name}.yml", f"version: 2\n\n{yml}")
    return written.write()


def new_feature(name: str, source: str, entity: str, force: bool = False) -> list[Path]:
    """Writes a table of Gold with the history of a thing over 28 days, and the feature view that serves it.

    Args:
        name: of table, view and asset.
        source: `gold/<model>` or `silver/<feed>`, of days.
        entity: its column that says of which thing a row is.
        force: write over the files that are there.

    Returns:
        What was written, below the project.

    Raises:
        AssayError: a name is none, there is no such table or column, or it has no days.
    """
    _check_name(name)
    written = Written(force, PROJECT)
    gold = _gold_of(source, written)
    if gold.name == name:
        raise AssayError(f"gold/{name} is the table itself", f"give its history another name, such as {name}_history")
    if gold.day is None:
        raise AssayError(
            f"gold/{gold.name} has no days, and a feature must be known from some moment on",
            "name a table of days, such as one from a daily feed",
        )
    key = gold.column(entity, "--entity")
    if key.type in ("double", "boolean", "date") or key.name == gold.day:
        raise AssayError(f"{entity} is a {key.type}, and names nothing", "use a code or a number for --entity")
    measures = _measures(gold, [entity])
    sql = _render(
        "history.sql", key=entity, day=gold.day, gold=gold.name, measures=[column.name for column in measures],
        available=_available(gold, written),
    )  # fmt: skip
    means = [
        Column(
            f"mean_{one.name}_28d", "double", f"Mean over rows_28d: {one.description.rstrip('.') or one.name}.", False
        )
        for one in measures
    ]
    columns = [
        Column(entity, "varchar", key.description, True),
        Column(gold.day, "date", "The last of the 28 days.", True),
        Column("rows_of_day", "bigint", f"Rows of {gold.name} of the day.", True),
        Column("rows_28d", "bigint", f"Rows of {gold.name} of the 28 days.", True),
        *means,
        Column(AVAILABLE_AT, "timestamp(6) with time zone", "From when on this row could be known, UTC.", True),
    ]
    about = f"What a {entity.replace('_', ' ')} was like in the 28 days up to a day"
    checks = [("the_day_is_one_of_the_28", "rows_of_day <= rows_28d")]
    yml = _model_yaml(name, f"{about}.", gold.group, [entity, gold.day], columns, checks, "lookback_days: 27, ")
    written.add(MODELS / f"gold/{name}.sql", sql)
    written.add(MODELS / f"gold/{name}.yml", f"version: 2\n\n{yml}")
    view = [
        "# A feature view over the table of Gold with its name; feature_repo/views.py reads it.",
        f"description: {json.dumps(about)}",
        f"owner: team:{gold.group}",
        f"entity: {_word(entity)}",
        f"key: {_word(entity)}",
        f"day: {_word(gold.day)}",
        "# How long after available_at a row may be used: past it, none of its 28 days lies in the last 28.",
        "lives_days: 28",
        "counts: [rows_of_day, rows_28d]",
        f"numbers: [{', '.join(column.name for column in means)}]",
    ]
    written.add(VIEWS / f"{name}.yml", "\n".join(view) + "\n")
    return written.write()


def _check_name(name: str) -> None:
    if not IDENTIFIER.fullmatch(name) or is_sql_word(name):
        raise AssayError(
            f"{name!r} cannot be a model's name", "use lower-case letters, digits and _, and no word of SQL"
        )


def _render(template: str, **values: Any) -> str:
    """A template of dbt_project/templates. dbt's own braces stay: ours are << >> and <% %>."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        variable_start_string="<<", variable_end_string=">>", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>", undefined=StrictUndefined, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - SQL, and names that were checked
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def _declared() -> Iterable[tuple[Path, dict[str, Any]]]:
    for file in sorted((PROJECT / MODELS).rglob("*.yml")):
        try:
            content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise AssayError(
                f"{file.relative_to(PROJECT)} is no YAML: {error}", "correct it, then run this again"
            ) from error
        yield from ((file, model) for model in (content or {}).get("models") or ())


def find_model(name: str, layer: str) -> Model | None:
    """A model that the project has, None if it has none of that name in that layer."""
    file = next(iter(sorted((PROJECT / MODELS / layer).rglob(f"{name}.sql"))), None)
    if file is None:
        return None
    declared = next((model for _, model in _declared() if model["name"] == name), None)
    described = (declared or {}).get("columns") or ()
    if not described or not all(isinstance(one.get("name"), str) and one.get("data_type") for one in described):
        raise AssayError(
            f"{file.relative_to(PROJECT)} has no columns in YAML, or some without a name or a data_type",
            "describe them as the other models do",
        )
    sql = file.read_text(encoding="utf-8")
    listed = re.search(r"""unique_key=(\[[^\]]*\]|['"]\w+['"])""", sql)
    keys = tuple(re.findall(r"\w+", listed[1])) if listed else ()
    day = re.search(r"""range_column=['"](\w+)['"]""", sql)
    columns = tuple(
        Column(one["name"], one["data_type"], one.get("description", ""), one["name"] in keys or _not_null(one))
        for one in described
    )
    group = (declared or {}).get("config", {}).get("group") or "analytics"
    return Model(name, file.relative_to(PROJECT), columns, keys, day[1] if day else None, group)


def _not_null(column: Mapping[str, Any]) -> bool:
    return any(one["type"] == "not_null" for one in column.get("constraints") or ())


def _gold_of(source: str, written: Written) -> Model:
    layer, _, table = source.replace(".", "/").partition("/")
    if layer == "gold":
        found = find_model(table, "gold")
        if found is None:
            there = sorted(file.stem for file in (PROJECT / MODELS / "gold").rglob("*.sql"))
            more = f"one of {', '.join(there)}" if there else "a feed instead: --from silver/<feed>"
            raise AssayError(f"There is no model gold/{table}", f"name {more}")
        return found
    if layer != "silver":
        raise AssayError(
            f"{source!r} is no table that models are made of", "write --from gold/<model> or --from silver/<feed>"
        )
    contracts = load_contracts()
    if table not in contracts:
        there = ", ".join(contracts)
        raise AssayError(
            f"There is no feed {table!r}",
            f"name one of {there}" if there else f"make it: ./assay new feed {table} --from FILE",
        )
    return find_model(table, "gold") or _plan_gold(contracts[table], written)


def _plan_gold(contract: Contract, written: Written) -> Model:
    """A model of Gold with the rows of a feed, without what is about people."""
    kept = [column for column in contract.columns if column.key or not column.is_sensitive]
    day = contract.days.column if contract.days else None
    columns = [
        Column(one.name, TRINO.get(one.spark_type, one.spark_type), one.description, one.required) for one in kept
    ]
    sql = _render("gold.sql", feed=contract.feed, keys=contract.keys, day=day, columns=[one.name for one in kept])
    if day:
        known = Column(AVAILABLE_AT, "timestamp(6) with time zone", "From when on this row could be known, UTC.", True)
        columns.append(known)
    group = contract.owner.removeprefix("team:")
    file = MODELS / f"gold/{contract.feed}.sql"
    yml = _model_yaml(contract.feed, contract.description, group, contract.keys, columns, [])
    left_out = [column.name for column in contract.columns if column not in kept]
    said = f"# Left out, as its contract classifies them: {', '.join(left_out)}.\n" if left_out else ""
    written.add(file, sql)
    written.add(file.with_suffix(".yml"), f"{said}version: 2\n\n{yml}")
    _plan_group(group, written)
    return Model(contract.feed, file, tuple(columns), contract.keys, day, group)


def _plan_group(group: str, written: Written) -> None:
    """dbt knows teams as groups, in one file."""
    path = MODELS / "groups.yml"
    file = PROJECT / path
    text = file.read_text(encoding="utf-8") if file.exists() else (
        "# Who answers for a model. The names are those of the contracts' owners, so that a person finds one team from landing\n"
        "# to mart.\nversion: 2\n\ngroups:\n"
    )  # fmt: skip
    there = {one["name"] for one in (yaml.safe_load(text) or {}).get("groups") or ()}
    if group not in there:
        title = group.replace("-", " ").capitalize()
        line = f"  - {{name: {_word(group)}, owner: {{name: {_word(title)}, email: {group}@example.com}}}}\n"
        written.files[path] = text + line


def _staging_of(gold: Model, written: Written) -> Model:
    """The view of the warehouse that types a table of Gold, a new one if there is none."""
    asked = re.compile(rf"""source\(['"]lake['"], ['"]gold_{gold.name}['"]\)""")
    for file in sorted((PROJECT / MODELS / "warehouse").rglob("*.sql")):
        if asked.search(file.read_text(encoding="utf-8")) and (found := find_model(file.stem, "warehouse")):
            columns = tuple(replace(one, filled="Nullable(" not in one.type) for one in found.columns)
            return replace(found, columns=columns, keys=gold.keys, day=gold.day)
    name = f"stg_{gold.name}"
    columns = [
        Column(column.name, _in_clickhouse(column, gold.day), column.description, column.filled)
        for column in gold.columns
    ]
    file = MODELS / f"warehouse/staging/{name}.sql"
    source = (
        "sources:\n"
        "  - name: lake\n"
        "    schema: \"{{ env_var('ASSAY_DBT_PREFIX', env_var('ASSAY_SCHEMA_PREFIX', '')) }}lake\"\n"
        "    description: Views over the lake's tables, pinned to the snapshots of the run.\n"
        "    tables:\n"
        f"      - name: gold_{gold.name}\n"
        f"        description: gold/{gold.name} as of the run.\n"
        f"        config: {{meta: {{dagster: {{asset_key: [gold, {gold.name}]}}}}}}\n"
    )
    yml = _model_yaml(name, f"Gold's {gold.name}, typed for ClickHouse.", gold.group, (), columns, [])
    written.add(file, _render("staging.sql", gold=gold.name, columns=columns))
    written.add(file.with_suffix(".yml"), f"version: 2\n\n{source}\n{yml}")
    return Model(name, file, tuple(columns), gold.keys, gold.day, gold.group)


def _in_clickhouse(column: Column, day: str | None) -> str:
    kind = CLICKHOUSE.get(column.type) or column.type.replace("decimal(", "Decimal(").replace(",", ", ")
    kind = "Date" if column.name == day else kind
    return kind if column.filled else f"Nullable({kind})"


def _plain(kind: str) -> str:
    while match := WRAPPED.fullmatch(kind):
        kind = match[1]
    return kind


def _measures(model: Model, keys: Sequence[str]) -> list[Column]:
    """The first numbers of a model that say how much, not which."""
    named = {*keys, *model.keys}
    numbers = [one for one in model.columns if NUMBER.fullmatch(_plain(one.type)) and one.name not in named]
    return [one for one in numbers if not ID.search(one.name)][:MEASURES]


def _total(kind: str) -> str:
    """The type of the sum of a number in ClickHouse."""
    plain = _plain(kind)
    if decimal := re.fullmatch(r"Decimal\(\d+, ?(\d+)\)", plain):
        return f"Nullable(Decimal(38, {decimal[1]}))"
    return "Nullable(Int64)" if "Int" in plain else "Nullable(Float64)"


def _sorts(staging: Model) -> list[Column]:
    """The first column of text that every row has and that names no single row; else the first of the key."""
    texts = [one for one in staging.columns if _plain(one.type) == "String" and one.filled and not ID.search(one.name)]
    keys = [one for one in staging.columns if one.name in staging.keys and one.name != staging.day and one.filled]
    return (texts or keys)[:1]


def _available(gold: Model, written: Written) -> str:
    """When a row of a history could be known: when its day's rows could, by the contracts that Gold's table is made by."""
    sql = written.files.get(gold.file) or (PROJECT / gold.file).read_text(encoding="utf-8")
    contracts = load_contracts()
    named = dict.fromkeys(re.findall(r"""source\(['"]silver['"], ['"](\w+)['"]\)""", sql))
    feeds = [feed for feed in named if feed in contracts and contracts[feed].days]
    moments = [f"{{{{ available_at('{feed}', '{gold.day}') }}}}" for feed in feeds]
    if not moments:
        raise AssayError(
            f"gold/{gold.name} reads no daily feed of Silver, so that nothing says when its rows are known",
            "name a table that does; or write the model by hand, with available_at, and the view beside it",
        )
    listed = ",\n            ".join(moments)
    return listed if len(moments) == 1 else f"greatest(\n            {listed}\n        )"


def _model_yaml(
    name: str,
    description: str,
    group: str,
    keys: Sequence[str],
    columns: Sequence[Column],
    checks: Sequence[tuple[str, str]],
    meta: str = "",
) -> str:
    """A model's part of a YAML file, as the others are written."""
    lines = [
        "models:",
        f"  - name: {_word(name)}",
        f"    description: {_text(description)}",
        "    config:",
        f"      group: {_word(group)}",
        f'      meta: {{{meta}dagster: {{owners: ["team:{group}"]}}}}',
    ]
    if checks:
        lines += ["    constraints:"]
        lines += [f'      - {{type: check, name: {called}, expression: "{condition}"}}' for called, condition in checks]
    if keys:
        lines += [
            "    data_tests:",
            "      - unique_combination:",
            f"          arguments: {{columns: [{', '.join(map(_word, keys))}]}}",
        ]
    lines += ["    columns:"]
    for one in columns:
        # Keys are checked anyway; ClickHouse's types say by themselves what may be null.
        needs = one.filled and one.name not in keys and one.type == one.type.lower()
        rule = ", constraints: [{type: not_null}]" if needs else ""
        lines.append(
            f"      - {{name: {_word(one.name)}, data_type: {json.dumps(one.type)}, description: {_text(one.description)}{rule}}}"
        )
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    """A name as YAML has it: no, off and 007 are no texts there."""
    return name if yaml.safe_load(name) == name else json.dumps(name)


def _text(text: str) -> str:
    return json.dumps(" ".join(text.split()), ensure_ascii=False)
