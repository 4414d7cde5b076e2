"""Notices: what a person should hear of, once each, found on the member's own machine.

What the log says is verified before it is told; what only the server says (about other members,
to an admin) is told as that.

Source: docs/operations.md, "Notices"; docs/adr/0014.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from hashshare.client.following import Follower
from hashshare.client.logbook import Logbook, Position
from hashshare.client.noticeboard import Notice, Noticeboard, NoticeKind
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.domain.history import Logged
from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, ListName, format_time, parse_time
from hashshare.domain.registry import Registry
from hashshare.domain.statements import Operation, Redaction, RegistryStatement, Submission
from hashshare.errors import VerificationError
from hashshare.wire.members import MemberDocument, MemberList, SelfDocument

AGREEMENT_DAYS: Final = (30, 7, 1)
"""So many days before an agreement ends, it is told."""
CERTIFICATE_DAYS: Final = (21, 7, 1)
"""So many days before a certificate ends, it is told."""
LAG: Final = timedelta(days=3)
"""A member that has pulled nothing for so long, though there is news, is told of to admins."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Watchman:
    """Looks for what a person should hear of, and puts it on the board.

    Attributes:
        logbook: Its own: how far the log was read for notices.
    """

    profile: Profile
    session: Session
    logbook: Logbook
    board: Noticeboard
    clock: Callable[[], datetime] = _now

    async def look(self) -> None:
        """Put everything new on the board.

        Raises:
            VerificationError: The log is not what it must be; this is on the board, too.
            UnavailableError: The server cannot be reached; what was found is on the board.
        """
        self._put(self._own_certificate())
        try:
            position = await self._read_log()
        except VerificationError as error:
            self._put([self.alarm(error)])
            raise
        registry = position.history.registry
        if registry is not None:
            self._put(self._agreement_of(registry, self.profile.member))
        me = await self.session.get("/v1/self", SelfDocument)
        if Role.ADMIN in me.roles:
            members = (await self.session.get("/v1/members", MemberList)).members
            self._put(self._on_members(members, position))

    def alarm(self, error: VerificationError) -> Notice:
        """Return the notice that something does not hold; one a day for the same."""
        now = self.clock()
        text = f"{type(error).__name__.removesuffix('Error')}: {error}"
        key = hashlib.sha256(f"{now:%Y-%m-%d} {text}".encode()).hexdigest()[:16]
        return Notice(f"alarm/{key}", NoticeKind.ALARM, now, text, {"error": type(error).__name__})

    def begin_at(self, position: Position) -> None:
        """Tell nothing of what the log held when this member first asked for notices."""
        if self.logbook.size() == 0:
            self.logbook.advance(position, (), base=0)

    def _put(self, notices: "Iterator[Notice] | list[Notice]") -> None:
        self.board.put(notices)

    async def _read_log(self) -> Position:
        """Read on in the log. It is heard before it is verified, and told only after that."""
        self.board.drop_unverified(self.logbook.size())
        follower = Follower(self.profile, self.session, self.logbook)
        heard = replace(follower, heard=lambda logged: self._put(_of_statement(logged)))
        return await heard.follow()

    def _own_certificate(self) -> Iterator[Notice]:
        issued = self.profile.certificate()
        yield from self._expiry(
            issued.fingerprint, issued.not_after, "your certificate", {}, "run hashshare renew"
        )

    def _on_members(self, members: list[MemberDocument], position: Position) -> Iterator[Notice]:
        for member in members:
            if member.status != "active":
                continue
            for key in member.pending_keys:
                text = f"{member.member} waits for approval: hashshare member approve"
                data: dict[str, str | int] = {"member": member.member}
                name = f"approval/{member.member}/{hashlib.sha256(key.encode()).hexdigest()[:16]}"
                yield Notice(name, NoticeKind.APPROVAL, self.clock(), text, data)
            if member.member != self.profile.member:
                yield from self._certificates_of(member)
                if position.history.registry is not None:
                    yield from self._agreement_of(position.history.registry, member.member)
            yield from self._lag_of(member, position)

    def _certificates_of(self, member: MemberDocument) -> Iterator[Notice]:
        valid = [c for c in member.certificates if c.revoked_at is None]
        newest = max(valid, key=lambda c: c.not_after, default=None)
        if newest is not None:
            yield from self._expiry(
                newest.fingerprint,
                parse_time(newest.not_after),
                f"the newest certificate of {member.member}",
                {"member": member.member},
                "it has to run hashshare renew",
            )

    def _agreement_of(self, registry: Registry, member_id: str) -> Iterator[Notice]:
        member = registry.members.get(member_id)
        if member is None or isinstance(member.agreement, msgspec.UnsetType):
            return
        left = member.agreement.ends - self.clock()
        days = min((d for d in AGREEMENT_DAYS if left < timedelta(days=d)), default=None)
        if days is not None:
            text = f"the agreement of {member_id} ends on {member.agreement.until}: reading stops"
            yield Notice(
                f"agreement/{member_id}/{member.agreement.until}/{days}",
                NoticeKind.AGREEMENT,
                self.clock(),
                text,
                {"member": member_id, "until": member.agreement.until},
            )

    def _expiry(
        self, fingerprint: str, end: datetime, what: str, data: dict[str, str | int], then: str
    ) -> Iterator[Notice]:
        left = end - self.clock()
        days = min((d for d in CERTIFICATE_DAYS if left < timedelta(days=d)), default=None)
        if days is not None:
            text = f"{what} ends on {format_time(end)}: {then}"
            yield Notice(
                f"certificate/{fingerprint[:16]}/{days}",
                NoticeKind.CERTIFICATE,
                self.clock(),
                text,
                data | {"not_after": format_time(end), "fingerprint": fingerprint},
            )

    def _lag_of(self, member: MemberDocument, position: Position) -> Iterator[Notice]:
        for pull in member.pulls:
            latest = position.history.publications.get(
                HashSetId(ListName.parse(pull.list_name).hash_set)
            )
            age = self.clock() - parse_time(pull.pulled_at)
            if latest is None or pull.version >= latest.publication.version or age < LAG:
                continue
            text = (
                f"{member.member} has not pulled {pull.list_name} since {pull.pulled_at}"
                f" (version {pull.version} of {latest.publication.version})"
            )
            yield Notice(
                f"lag/{member.member}/{pull.list_name}/{pull.version}",
                NoticeKind.LAG,
                self.clock(),
                text,
                {"member": member.member, "list": pull.list_name, "version": pull.version},
            )


def _of_statement(logged: Logged) -> list[Notice]:
    """Return the notice of a statement, if people should hear of it."""
    match logged.statement:
        case Submission(operation=Operation.DISPUTE) as said:
            kind = NoticeKind.DISPUTE
            text = f"{said.member} disputes {said.batch.count} hashes of {said.hash_set}"
            data: dict[str, str | int] = {
                "member": said.member,
                "hash_set": said.hash_set,
                "count": said.batch.count,
            }
        case RegistryStatement() as said:
            kind = NoticeKind.REGISTRY
            text = f"version {said.version} of the registry: {said.reason}"
            data = {"version": said.version, "reason": said.reason}
        case Redaction() as said:
            kind = NoticeKind.REDACTION
            text = f"a batch was deleted: {said.reason}"
            data = {"submission": said.submission, "reason": said.reason}
        case _:
            return []
    at, data = parse_time(said.created_at), data | {"log_index": logged.index}
    return [Notice(f"leaf/{logged.index}", kind, at, text, data, leaf=logged.index)]
