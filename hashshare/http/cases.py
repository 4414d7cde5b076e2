"""Cases: disputes that no ruling has settled, and what members answer."""

from typing import Final

from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.domain.names import format_time
from hashshare.http.context import PEER, answer, now, read_document, services
from hashshare.service.cases import HASHES, Case
from hashshare.storage.cases import DisputedHash
from hashshare.wire.cases import (
    CaseDocument,
    CaseList,
    ConfirmationDocument,
    ConfirmationRequest,
    DisputedDocument,
    DisputedList,
)

routes: Final = web.RouteTableDef()


@routes.get("/v1/cases")
async def list_cases(request: web.Request) -> web.StreamResponse:
    """Answer with up to 100 open cases that concern the caller, above ``?after=``."""
    after = request.query.get("after")
    cases = await services(request).cases.list_cases(
        request[PEER], after=-1 if after is None else parse_number(after)
    )
    return answer(CaseList(cases=[_to_case(case) for case in cases]))


@routes.get("/v1/cases/{case}/hashes")
async def get_hashes(request: web.Request) -> web.StreamResponse:
    """Answer with up to 1000 hashes of a case that concern the caller, from ``?after=`` on."""
    found = await services(request).cases.read_hashes(
        request[PEER],
        parse_number(request.match_info["case"]),
        after=parse_number(request.query.get("after", "0")),
    )
    after = found[-1].hash_id if len(found) == HASHES else None
    return answer(DisputedList(hashes=[_to_disputed(one) for one in found], after=after))


@routes.post("/v1/cases/{case}/confirmation")
async def post_confirmation(request: web.Request) -> web.StreamResponse:
    """Note that the caller stands by what it asserts."""
    case = parse_number(request.match_info["case"])
    body = await read_document(request, ConfirmationRequest)
    await services(request).cases.confirm(request[PEER], case, comment=body.comment, now=now())
    return web.Response(status=204)


def _to_case(case: Case) -> CaseDocument:
    row = case.row
    return CaseDocument(
        case=row.log_index,
        statement_id=row.statement_id,
        hash_set=row.hash_set,
        member=row.member or None,
        reasons=row.reasons,
        alone=row.alone,
        hashes=row.disputed,
        yours=row.asserted,
        opened_at=format_time(row.accepted_at),
        confirmations=[
            ConfirmationDocument(
                member=one.member or None,
                comment=one.comment,
                confirmed_at=format_time(one.confirmed_at),
            )
            for one in case.confirmations
        ],
    )


def _to_disputed(one: DisputedHash) -> DisputedDocument:
    return DisputedDocument(
        hash=str(one.value), reason=one.reason, yours=one.mine, asserted_by=[*one.asserted_by]
    )
