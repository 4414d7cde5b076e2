"""Who the peer is: from its certificate to a member, anew at each request."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hashshare.domain.members import Status
from hashshare.domain.names import MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.scopes import Scope, narrow
from hashshare.errors import ExpiredError, NotEnrolledError, SuspendedError, UnavailableError
from hashshare.service.news import News
from hashshare.service.registry import RegistryService
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.members import CertificateRow, MembersRepository

SEEN_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sends a request.

    Attributes:
        member: An active member.
        fingerprint: Of the certificate that it uses, hex.
        registry: The one in force when the request came; narrowed where the certificate has a
            scope, so that whatever asks it what the peer may is answered for this certificate.
        coalition: The same, never narrowed.
    """

    member: MemberId
    fingerprint: str
    certificate: CertificateRow
    registry: Registry
    coalition: Registry

    @property
    def scope(self) -> Scope | None:
        """What the certificate is for; None for all that the member may do."""
        return self.certificate.scope

    def may_contribute(self, hash_set: str) -> bool:
        """Return whether it may submit to a hash set with this certificate."""
        if self.scope is not None and not (self.scope.pushes and self.scope.covers(hash_set)):
            return False
        return self.coalition.may_contribute(self.member, hash_set)


@dataclass(slots=True)
class Directory:
    """Finds members by certificate. Asks the database once, and again after each change.

    TLS looks at a certificate once per connection, so that revocation and expiry are
    decided here. Without contact to the database nobody is let in.
    """

    pool: Pool
    news: News
    registries: RegistryService
    _epoch: int = -1
    _registry: Registry | None = None
    _certificates: dict[str, CertificateRow] = field(default_factory=dict)
    _narrowed: dict[str, Registry] = field(default_factory=dict)
    _seen: dict[str, datetime] = field(default_factory=dict)

    async def resolve(self, fingerprint: str, *, now: datetime) -> Peer:
        """Return the member that a certificate belongs to.

        Raises:
            NotEnrolledError: The certificate was not issued to a member.
            SuspendedError: It was revoked, or its member is not active.
            ExpiredError: It is not valid at ``now``.
            UnavailableError: The database is out of reach.
        """
        # Raises when nothing was heard of the database for some seconds.
        _ = self.news.log_size
        registry = await self._current_registry()
        certificate = await self._find(fingerprint)
        if certificate is None:
            raise NotEnrolledError("this certificate belongs to no member")
        if certificate.revoked_at is not None:
            raise SuspendedError("this certificate is revoked")
        if not certificate.not_before <= now < certificate.not_after:
            raise ExpiredError("this certificate has expired; ask an admin for an invitation")
        member = registry.members.get(certificate.member)
        if member is None or member.status is not Status.ACTIVE:
            status = "unknown" if member is None else member.status.value
            raise SuspendedError(f"member {certificate.member} is {status}")
        seen = self._narrow(registry, certificate)
        return Peer(certificate.member, fingerprint, certificate, seen, registry)

    async def mark_seen(self, fingerprint: str, *, now: datetime) -> None:
        """Record that a member's certificate is in use, to the hour."""
        before = self._seen.get(fingerprint)
        if before is not None and now - before < SEEN_EVERY:
            return
        self._seen[fingerprint] = now
        # Admins like to know; members need not wait for it.
        with suppress(UnavailableError):
            async with transaction(self.pool) as connection:
                await MembersRepository(connection).mark_seen(fingerprint, now)

    async def _current_registry(self) -> Registry:
        epoch = self.news.membership_epoch
        if self._registry is None or epoch != self._epoch:
            # In this order: a change that comes between is heard, and read again.
            registry = (await self.registries.current()).registry
            self._certificates.clear()
            self._narrowed.clear()
            self._epoch, self._registry = epoch, registry
        return self._registry

    def _narrow(self, registry: Registry, certificate: CertificateRow) -> Registry:
        if certificate.scope is None:
            return registry
        known = self._narrowed.get(certificate.fingerprint)
        if known is None or known.version != registry.version:
            known = narrow(registry, certificate.member, certificate.scope)
            self._narrowed[certificate.fingerprint] = known
        return known

    async def _find(self, fingerprint: str) -> CertificateRow | None:
        known = self._certificates.get(fingerprint)
        if known is None:
            async with snapshot(self.pool) as connection:
                known = await MembersRepository(connection).find_certificate(fingerprint)
            # Those of strangers are not remembered: they could be any number.
            if known is not None:
                self._certificates[fingerprint] = known
        return known
