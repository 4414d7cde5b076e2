"""Forms of a report; apart from what renders it, so that they can be named without templates."""

from enum import StrEnum


class ReportFormat(StrEnum):
    """In what form a report is written."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"
