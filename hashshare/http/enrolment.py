"""The listener for those who have no certificate yet."""

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from hashshare.crypto import canonical
from hashshare.domain.documents import encode_document
from hashshare.domain.names import format_time
from hashshare.errors import NotFoundError
from hashshare.http import est
from hashshare.http.context import answer, now, read_document, services
from hashshare.http.trail import annotate_act
from hashshare.wire.members import EnrolmentDone, EnrolmentRequest

routes: Final = web.RouteTableDef()

# Whoever has no certificate yet may know by whom it will be (RFC 7030 section 4.1.2).
routes.get(est.CA_CERTIFICATES)(est.get_ca_certificates)


@routes.get("/health")
async def get_health(request: web.Request) -> web.StreamResponse:
    """Answer with 200 while the server is in contact with its database, else with 503."""
    return web.json_response({"log_size": services(request).news.log_size, "status": "ok"})


@routes.get("/v1/trust")
async def get_trust(request: web.Request) -> web.StreamResponse:
    """Answer with the trust document, in force or of ``?digest=``, as an invitation names it."""
    digest = request.query.get("digest", "")
    body = encode_document(services(request).membership.trust())
    if digest and canonical.digest(body) != digest:
        # An invitation of another coalition is found out by whoever holds it.
        with suppress(NotFoundError):
            name = f"{digest}.trust.json"
            body = await asyncio.to_thread(services(request).ceremony.read_target, name)
    return web.Response(body=body, content_type="application/json")


@routes.post("/v1/enrolments")
async def post_enrolment(request: web.Request) -> web.StreamResponse:
    """Give a certificate to whoever holds an invitation."""
    body = await read_document(request, EnrolmentRequest)
    enrolled = await services(request).enrolments.enrol(
        token=body.token,
        csr=body.csr,
        submission_key=body.submission_key,
        possession=body.possession,
        now=now(),
    )
    annotate_act(request, member=enrolled.member)
    document = EnrolmentDone(
        approved=enrolled.approved,
        certificate=enrolled.certificate.pem,
        member=enrolled.member,
        not_after=format_time(enrolled.certificate.not_after),
        registry_version=enrolled.registry_version,
    )
    return answer(document, status=201)
