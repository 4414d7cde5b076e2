"""Feedback: what a member reports that hashes did for it, and what others are shown."""

from dataclasses import asdict
from typing import Final

from aiohttp import web

from hashshare.domain.feedback import Counts, Month, Shown
from hashshare.domain.hashes import HashValue, parse_algorithm, parse_value
from hashshare.http.context import (
    PEER,
    answer,
    now,
    read_document,
    readable_set,
    services,
)
from hashshare.http.trail import annotate_act
from hashshare.wire.feedback import (
    FeedbackCounts,
    FeedbackDone,
    FeedbackOfHash,
    FeedbackReport,
    FeedbackShown,
    HashFeedback,
)

routes: Final = web.RouteTableDef()


@routes.post("/v1/hash-sets/{hash_set}/feedback")
async def post_feedback(request: web.Request) -> web.StreamResponse:
    """Keep a page of the caller's report of a month."""
    hash_set = readable_set(request)
    page = await read_document(request, FeedbackReport)
    month = Month.parse(page.month)
    counts = [(_to_value(row), _to_counts(row)) for row in page.hashes]
    # That there was a report, not what of: how much a member matches is its own affair.
    annotate_act(request, month=str(month), named=int(page.named))
    known = await services(request).feedback.report(
        hash_set,
        month,
        counts,
        total=None if page.total is None else _to_counts(page.total),
        named=page.named,
        reader=request[PEER],
        now=now(),
    )
    return answer(FeedbackDone(known=known))


@routes.get("/v1/hash-sets/{hash_set}/hashes/{algorithm}/{digits}/feedback")
async def get_feedback(request: web.Request) -> web.StreamResponse:
    """Answer with what is shown of the feedback on one hash."""
    hash_set = readable_set(request)
    algorithm = parse_algorithm(request.match_info["algorithm"])
    value = HashValue(algorithm, parse_value(algorithm, request.match_info["digits"]))
    found = await services(request).feedback.read(hash_set, value, reader=request[PEER], now=now())
    return answer(HashFeedback(feedback=[to_document(shown) for shown in found]))


def to_document(shown: Shown) -> FeedbackShown:
    """Return it as it crosses the wire."""
    return FeedbackShown(
        member=shown.member,
        members=shown.members,
        first=str(shown.first),
        last=str(shown.last),
        **asdict(shown.counts),
    )


def _to_value(row: FeedbackOfHash) -> HashValue:
    algorithm = parse_algorithm(row.algorithm)
    return HashValue(algorithm, parse_value(algorithm, row.hash))


def _to_counts(document: FeedbackCounts) -> Counts:
    return Counts(document.matched, document.false_positive, document.not_matched)
