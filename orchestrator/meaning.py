"""Fingerprints of what code does: two texts that differ in comments and layout alone have the same.

Belongs here: SQL, Jinja and Python, each as text. Does not belong here: which table a text makes (describe).
"""

import ast
import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlglot import exp

JINJA_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
# A comment; or a text in quotes, in which two dashes are none.
SQL_COMMENT = re.compile(r"""('[^'\n]*'|"[^"\n]*")|--[^\n]*""")
JINJA = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
# One row in, several out: such a column is never alone.
UNFOLDS = ("arrayjoin", "unnest", "explode")


def fingerprint(text: str) -> str:
    """A short text that is another for every other text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def python(source: str, file: str = "<unknown>") -> str:
    """Of a module, without comments and docstrings. `file` is what a mistake in it names."""
    tree = ast.parse(source, file)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
        ):
            node.body = node.body[1:]
    return fingerprint(ast.dump(tree))


def macro(source: str) -> str:
    """Of a macro, or any text that is SQL and Jinja and never parsed: without comments, all blanks alike."""
    return fingerprint(" ".join(SQL_COMMENT.sub(r"\1", JINJA_COMMENT.sub("", source)).split()))


def jinja(source: str) -> str:
    """Of a model's logic, which its rendered SQL shows for one case alone."""
    tags = [" ".join(tag.split()) for tag in JINJA.findall(JINJA_COMMENT.sub("", source))]
    return fingerprint("\n".join(tags))


def sql(statement: str, dialect: str) -> dict[str, Any]:
    """Of a query: `whole`; and, so that a change of one column can be told from a change of all, `columns` by name and
    `rest`, which is the query without them. Columns that the query uses otherwise, too, are part of `rest`.

    What sqlglot cannot read is compared as text.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    try:
        query = normalize_identifiers(parse_one(statement, dialect=dialect), dialect=dialect)
    except SqlglotError:
        return {"whole": macro(statement), "columns": {}, "rest": macro(statement)}
    whole = query.sql(dialect=dialect, comments=False)
    columns: dict[str, str] = {}
    outer = _projecting(query)
    for one in _alone(query, outer) if outer is not None else ():
        columns[one.alias_or_name] = fingerprint(one.sql(dialect=dialect, comments=False))
        one.replace(exp.alias_(exp.null(), one.alias_or_name))
    return {
        "whole": fingerprint(whole),
        "columns": columns,
        "rest": fingerprint(query.sql(dialect=dialect, comments=False)),
    }


def _projecting(query: "exp.Expr") -> "exp.Select | None":
    """The select whose list is the query's: behind `select * from final` that of `final`."""
    from sqlglot import exp

    if not isinstance(query, exp.Select):
        return None
    with_ = query.args.get("with_")
    named = {cte.alias: cte.this for cte in with_.expressions} if with_ else {}
    plain = not any(query.args.get(part) for part in ("joins", "where", "group", "distinct", "limit", "qualify"))
    source = query.args.get("from_")
    if query.is_star and len(query.expressions) == 1 and plain and source is not None:
        inner = named.get(source.this.name)
        return inner if isinstance(inner, exp.Select) and not inner.is_star else None
    return None if query.is_star else query


def _alone(query: "exp.Expr", outer: "exp.Select") -> "list[Any]":
    """The columns of a list that nothing else in the query depends on."""
    from sqlglot import exp

    group = outer.args.get("group")
    by_number = group is not None and (not group.expressions or any(one.is_int for one in group.expressions))
    if outer.args.get("distinct") or by_number:
        return []
    found: list[Any] = []
    for one in outer.expressions:
        own = {id(column) for column in one.find_all(exp.Column)}
        used = any(column.name == one.alias_or_name and id(column) not in own for column in query.find_all(exp.Column))
        text = one.sql().lower()
        collapses = group is None and one.find(exp.AggFunc) is not None
        if not used and not collapses and not any(word in text for word in UNFOLDS):
            found.append(one)
    return found
