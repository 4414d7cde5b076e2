"""EST (RFC 7030): the CA's certificates and renewal, for programs that speak it and not ours.

Nobody joins by it: EST knows nothing of a member's submission key. See docs/adr/0020.
"""

import json
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from hashshare.crypto.certificates import MAX_CSR_BYTES, Issued
from hashshare.crypto.est import encode_certificates, parse_reenrolment
from hashshare.http.context import PEER, now, read_body, services
from hashshare.http.middlewares import Handler
from hashshare.wire import problem

routes: Final = web.RouteTableDef()

PREFIX: Final = "/.well-known/est/"
CA_CERTIFICATES: Final = f"{PREFIX}cacerts"
CERTIFICATES: Final = "application/pkcs7-mime"


@web.middleware
async def refuse_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give refusals as text, which clients of EST show to people (RFC 7030 section 4.2.3)."""
    response = await handler(request)
    if (
        request.path.startswith(PREFIX)
        and isinstance(response, web.Response)
        and response.content_type == problem.MEDIA_TYPE
    ):
        document = json.loads(response.text or "{}")
        response.content_type = "text/plain"
        response.text = f"{document.get('detail', document['title'])}\n"
    return response


@routes.get(CA_CERTIFICATES)
async def get_ca_certificates(request: web.Request) -> web.StreamResponse:
    """Answer with the certificates of the coalition's CA, former ones that are trusted too.

    Source: RFC 7030 section 4.1.3.
    """
    authorities = services(request).membership.trust().authorities
    return _answer(authorities, CERTIFICATES)


@routes.post(f"{PREFIX}simplereenroll")
async def post_reenrolment(request: web.Request) -> web.StreamResponse:
    """Give the caller the certificate that it shows anew; its present one stays valid.

    Source: RFC 7030 section 4.2.2.
    """
    peer = request[PEER]
    body = await read_body(request, max_bytes=MAX_CSR_BYTES)
    key = parse_reenrolment(body, shown=Issued.parse_der(peer.certificate.der))
    issued = await services(request).membership.renew(peer, key=key, label=None, now=now())
    return _answer([issued], f"{CERTIFICATES}; smime-type=certs-only")


def _answer(certificates: Sequence[Issued], kind: str) -> web.Response:
    # RFC 8951 has readers ignore the second header, and those before it wait for it.
    headers = {"Content-Type": kind, "Content-Transfer-Encoding": "base64"}
    return web.Response(body=encode_certificates(certificates).encode(), headers=headers)
