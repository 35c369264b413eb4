"""The page of a validation: Great Expectations' own, made to stand alone.

Belongs here: rendering results that were masked, and where pages lie. Does not belong here: judging, masking (validate).
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.settings import Settings
from quality.profile import Subject

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import (
        ExpectationValidationResult,
    )

# Of each table; the older ones go.
PAGES = 20
# The page is opened from a disk, perhaps without a network, and is nobody else's to know of: styles, scripts and pictures of
# eight other servers go, with what needs them (filter, folding) and links into a site of which it is not part.
ELSEWHERE = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<footer\b.*?</footer>|<img\b[^>]*>"
    r'|<nav class="navbar navbar-expand-md.*?</nav>\s*</div>\s*</nav>'
    r'|<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>.*?(?=<div class="card d-md-block)'
    r'|<a data-toggle="collapse".*?</a>',
    re.DOTALL,
)
LINK = re.compile(r'<a href="(?:\.\./[^"]*|https?:[^"]*)"\s*>(.*?)</a>', re.DOTALL)
STYLE = Path(__file__).with_name("page.css")


def write_page(
    settings: Settings, subject: Subject, results: "list[ExpectationValidationResult]", parts: Sequence[str]
) -> Path:
    """Writes the page of some results, which must be masked: it shows what they hold. Great Expectations' stores, which would
    keep them as they were, are not used. A file has a name of its own and appears whole, so that writers need no lock.

    Args:
        parts: the days or months that were judged, as text, in order.
    """
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    now = datetime.now(UTC)
    met = sum(bool(one.success) for one in results)
    title = f"{subject.name} {parts[0]} to {parts[-1]}"
    whole: ExpectationSuiteValidationResult = ExpectationSuiteValidationResult(
        results=results,
        success=met == len(results),
        suite_name=title,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": met,
            "unsuccessful_expectations": len(results) - met,
            "success_percent": 100 * met / len(results) if results else None,
        },
        meta={"run_id": {"run_name": f"{now:%Y-%m-%d %H:%M:%S} UTC", "run_time": now.isoformat()}},
    )
    html = standing_alone(_view().render(ValidationResultsPageRenderer().render(whole)), title)
    folder = settings.home / "data_docs" / f"{subject.layer}.{subject.table}"
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{now:%Y%m%dT%H%M%S%f}_{os.getpid()}_{parts[0]}_{parts[-1]}.html"
    part = page.with_suffix(".part")
    part.write_text(html, encoding="utf-8")
    part.replace(page)
    for old in sorted(folder.glob("*.html"))[:-PAGES]:
        old.unlink(missing_ok=True)
    return page


def standing_alone(html: str, title: str) -> str:
    """A rendered page that asks no other server for anything and has no dead link."""
    bare = LINK.sub(r"\1", ELSEWHERE.sub("", html))
    bare = re.sub(r"<title>.*?</title>", "", bare, flags=re.DOTALL)
    return bare.replace("</head>", f"<title>{title}</title><style>\n{STYLE.read_text()}</style></head>", 1)


@cache
def _view() -> Any:
    """The page's templates, compiled once a process: 0.4 s."""
    from great_expectations.render.view.view import DefaultJinjaPageView

    return DefaultJinjaPageView()
