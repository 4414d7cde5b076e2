"""The transparency report."""

from datetime import datetime
from typing import Final

from aiohttp import web

from hashshare.domain.names import parse_time
from hashshare.http.context import answer, now, require_auditor, services

routes: Final = web.RouteTableDef()


@routes.get("/v1/report")
async def get_report(request: web.Request) -> web.StreamResponse:
    """Answer with the report of the time from ``?from=`` on, until before ``?to=``."""
    require_auditor(request)
    begin, end = (_moment(request, name) for name in ("from", "to"))
    document = await services(request).reports.make(begin, end, now=now())
    return answer(document, headers={"Cache-Control": "no-store"})


def _moment(request: web.Request, name: str) -> datetime:
    return parse_time(request.query.get(name, ""))
