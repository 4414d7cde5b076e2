"""Spans: parts of the log, from one leaf to another.

A member's are those in which what it submitted counts for nothing.
"""

from collections.abc import Iterable, Sequence

from hashshare.domain.documents import Count, Document
from hashshare.errors import MalformedError


class Span(Document, frozen=True):
    """A part of the log, from one leaf to another, both with it."""

    first: Count
    last: Count


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the same parts of the log, ascending and apart."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        if joined and span.first <= joined[-1].last + 1:
            before = joined.pop()
            joined.append(Span(first=before.first, last=max(before.last, span.last)))
        else:
            joined.append(span)
    return joined


def cut_spans(spans: Iterable[Span], gone: Iterable[Span]) -> list[Span]:
    """Return what is left of parts of the log without others."""
    left = list(spans)
    for cut in gone:
        pieces = []
        for span in left:
            if span.last < cut.first or span.first > cut.last:
                pieces.append(span)
                continue
            if span.first < cut.first:
                pieces.append(Span(first=span.first, last=cut.first - 1))
            if span.last > cut.last:
                pieces.append(Span(first=cut.last + 1, last=span.last))
        left = pieces
    return left


def covers(spans: Sequence[Span], log_index: int) -> bool:
    """Return whether one of the parts of the log holds this leaf."""
    return any(span.first <= log_index <= span.last for span in spans)


def verify_spans(spans: Sequence[Span]) -> None:
    """Refuse parts of the log that are not written in their one form.

    Raises:
        MalformedError: They overlap, meet, or are not ascending.
    """
    after = 0
    for span in spans:
        if not after <= span.first <= span.last:
            raise MalformedError("disregarded parts of the log are written ascending and apart")
        # Two that meet would be a second spelling of one.
        after = span.last + 2
