"""Who reads from a mirror: found from the certificate, without asking the coalition's server.

The coalition's CA issued the certificate to a member. Whether that is active, and what it may
read, the registry says that the mirror has verified itself. Which single certificates are
revoked, or have a scope, stands in no log: the mirror lets in only those that its last sync
found whole, so that one made since, which may have a scope, waits for the next sync.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from hashshare.crypto.certificates import Issued
from hashshare.domain.members import Role, Status
from hashshare.domain.names import HashSetId, ListName, MemberId
from hashshare.domain.release import may_read_list
from hashshare.errors import (
    ExpiredError,
    MalformedError,
    NotEnrolledError,
    NotFoundError,
    SuspendedError,
)
from hashshare.http.context import PEER, now, readable_list, readable_set
from hashshare.http.middlewares import MEMBER_LIMIT, Handler, peer_certificate
from hashshare.mirror.archive import Archive
from hashshare.service.directory import Peer
from hashshare.storage.members import CertificateRow


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Lets members in, and tells what they may read.

    Attributes:
        operator: The member that runs the mirror: what it may not read is not served.
    """

    archive: Archive
    operator: MemberId

    def resolve(self, der: bytes, *, now: datetime) -> Peer:
        """Return the member that a certificate of the coalition's CA was issued to.

        Raises:
            NotEnrolledError: It was issued to no member.
            SuspendedError: It is revoked, has a scope or is younger than the last sync, or its
                member is not active.
            ExpiredError: It is not valid at ``now``.
            UnavailableError: Nothing was mirrored yet.
        """
        try:
            issued = Issued.parse_der(der)
            member = issued.member
        except MalformedError as error:
            raise NotEnrolledError("this certificate belongs to no member") from error
        registry = self.archive.registry()
        if member is None or member not in registry.members:
            raise NotEnrolledError("this certificate belongs to no member")
        if issued.fingerprint not in msgspec.json.decode(
            self.archive.get_state("admitted") or b"[]"
        ):
            raise SuspendedError(
                "this certificate was revoked, has a scope, or is younger than the mirror's copy"
            )
        if not issued.not_before <= now < issued.not_after:
            raise ExpiredError("this certificate has expired; ask an admin for an invitation")
        if registry.members[member].status is not Status.ACTIVE:
            raise SuspendedError(f"member {member} is {registry.members[member].status.value}")
        row = _to_row(issued, member)
        return Peer(MemberId(member), issued.fingerprint, row, registry, registry)

    def list_of(self, request: web.Request) -> ListName:
        """Return the list that the path names, if the peer and the operator may read it.

        Raises:
            NotFoundError: There is none here, or the peer may not know of it.
            MalformedError: The path names no list.
        """
        name = readable_list(request)
        if not may_read_list(request[PEER].registry, self.operator, name):
            raise NotFoundError(f"no list {name}")
        return name

    def set_of(self, request: web.Request) -> HashSetId:
        """Return the hash set that the path names, if the peer and the operator may read it.

        Raises:
            NotFoundError: There is none here, or the peer may not know of it.
        """
        hash_set = readable_set(request)
        self._verify_mirrored(request, hash_set)
        return hash_set

    def verify_batch(self, request: web.Request, sha256: str) -> None:
        """Refuse a batch to all but its members, admins and auditors, as the server does.

        Raises:
            NotFoundError: The peer may not have it.
        """
        peer = request[PEER]
        roles = peer.registry.member(peer.member).roles
        if Role.ADMIN in roles or Role.AUDITOR in roles:
            return
        if peer.member not in self.archive.owners(sha256):
            raise NotFoundError("there is no such batch")

    def _verify_mirrored(self, request: web.Request, hash_set: HashSetId) -> None:
        if not request[PEER].registry.may_read(self.operator, hash_set):
            raise NotFoundError(f"no hash set {hash_set!r:.70}")


DOORKEEPER: Final = web.AppKey("doorkeeper", Doorkeeper)


@web.middleware
async def identify_reader(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the member behind the certificate, at each request anew, and count its requests."""
    der = peer_certificate(request.transport)
    if der is None:
        raise NotEnrolledError("a client certificate is required")
    request[PEER] = request.app[DOORKEEPER].resolve(der, now=now())
    request.app[MEMBER_LIMIT].take(request[PEER].member)
    return await handler(request)


def _to_row(issued: Issued, member: str) -> CertificateRow:
    return CertificateRow(
        fingerprint=issued.fingerprint,
        member=MemberId(member),
        label="",
        not_before=issued.not_before,
        not_after=issued.not_after,
        der=issued.der,
        revoked_at=None,
        reason=None,
        last_seen_at=None,
    )
