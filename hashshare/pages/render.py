"""Rendering: templates with everything escaped, and the words for numbers and times."""

import base64
import hashlib
from functools import lru_cache
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from hashshare.pages.charts import draw_sizes, percent
from hashshare.pages.formats import ReportFormat
from hashshare.wire.report import ReportDocument

_STEPS: Final = 48
_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def render(template: str, **values: object) -> str:
    """Return a template of this package, filled in; names that are missing raise."""
    return _environment().get_template(template).render(**values)


def render_report(report: ReportDocument, form: ReportFormat) -> str:
    """Return a report: HTML stands alone, and loads nothing from anywhere."""
    if form is ReportFormat.JSON:
        return report.model_dump_json(indent=2) + "\n"
    if form is ReportFormat.MARKDOWN:
        return render("report.md", report=report)
    style = static_text("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Our own file, not data: the one thing that is not to be escaped.
    return render("report.html", style=Markup(style), digest=digest, **report_values(report))  # noqa: S704


def report_values(report: ReportDocument) -> dict[str, object]:
    """Return what the body of a report's page takes."""
    charts = draw_sizes(report.sizes, begin=report.begin, end=report.end, steps=_STEPS)
    most = {row.hash_set: row.held for row in report.counts if row.by == "all"}
    return {"report": report, "charts": charts, "most": most}


def static_text(name: str) -> str:
    """Return a file of ``static/``."""
    return (resources.files("hashshare.pages") / "static" / name).read_text(encoding="utf-8")


def duration(milliseconds: int | None) -> str:
    """Return a duration for people, such as ``3.4 s`` or ``2 d``; a dash for None."""
    if milliseconds is None:
        return "–"
    for size, unit in _UNITS:
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds} ms"


def number(value: int) -> str:
    """Return a number with thin spaces between the thousands."""
    return f"{value:,}".replace(",", "\u202f")


def moment(text: str | None) -> str:
    """Return a time like ``2026-11-23 10:00 UTC`` from its wire form; a dash for None."""
    return "–" if text is None else f"{text[:10]} {text[11:16]} UTC"


def cell(value: object) -> str:
    """Return text for a cell of a Markdown table: on one line, without meaning to Markdown."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!&~" else c for c in text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hashshare.pages"),
        autoescape=select_autoescape(
            disabled_extensions=("md",), default=True, default_for_string=True
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = {"duration": duration, "number": number, "moment": moment, "cell": cell}
    environment.filters.update(filters)
    environment.globals["percent"] = percent
    return environment
