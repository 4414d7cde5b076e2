"""Cases: whom disputes concern is told, and answers; reviewers close them by rulings.

A case is open as long as a dispute of its submission is in force and no ruling has settled it.
Nothing is kept of that: it follows from what is in the log.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.release import reads_all_views
from hashshare.domain.spans import covers
from hashshare.errors import NotFoundError, PermissionDeniedError
from hashshare.service.pull import Reader
from hashshare.storage.cases import Asking, CaseRepository, CaseRow, ConfirmationRow, DisputedHash
from hashshare.storage.database import Connection, Pool, snapshot, transaction

CASES: Final = 100
"""Cases in one answer."""
HASHES: Final = 1000
"""Hashes in one answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case with what members answered.

    Attributes:
        row: Its member is "" where the one who asks may not know it, as in the confirmations.
    """

    row: CaseRow
    confirmations: list[ConfirmationRow]


@dataclass(frozen=True, slots=True)
class CaseService:
    """Answers about cases. May be used by several tasks and processes at once."""

    pool: Pool

    async def list_cases(self, reader: Reader, *, after: int = -1) -> list[Case]:
        """Return up to 100 open cases that concern a member, oldest first.

        Reviewers, admins and auditors are concerned by all of the hash sets whose views they may
        all read; others by those in which they dispute something, or something that they assert
        is disputed.
        """
        asking = _asking(reader)
        async with snapshot(self.pool) as connection:
            repository = CaseRepository(connection)
            rows: list[CaseRow] = []
            page = await repository.read_cases(asking, after=after, limit=CASES)
            while page and not rows:
                rows = [row for row in page if not _is_disregarded(row, reader.registry)]
                # None of these: an empty answer would be taken for the end.
                after = page[-1].log_index
                page = await repository.read_cases(asking, after=after, limit=CASES)
            said = await repository.read_confirmations([row.log_index for row in rows])
        return [_as_seen(row, said, asking, reader.registry) for row in rows]

    async def read_hashes(
        self, reader: Reader, log_index: int, *, after: int = 0
    ) -> list[DisputedHash]:
        """Return up to 1000 hashes of an open case that concern a member.

        Raises:
            NotFoundError: There is no such case, or it does not concern the member.
        """
        asking = _asking(reader)
        async with snapshot(self.pool) as connection:
            row = await _find(connection, asking, reader, log_index)
            found = await CaseRepository(connection).read_disputed(
                asking, log_index, after=after, limit=HASHES
            )
        if _sees_members(row.hash_set, asking, reader.registry):
            return found
        return [
            replace(one, asserted_by=[m for m in one.asserted_by if m == reader.member])
            for one in found
        ]

    async def confirm(self, reader: Reader, log_index: int, *, comment: str, now: datetime) -> None:
        """Note that a member stands by what it asserts of the hashes of a case.

        Durable once it returns; replaces what it answered before.

        Raises:
            NotFoundError: There is no such case, or it does not concern the member.
            PermissionDeniedError: It asserts none of the hashes.
        """
        async with transaction(self.pool) as connection:
            row = await _find(connection, _asking(reader), reader, log_index)
            if not row.asserted:
                raise PermissionDeniedError("only who asserts a hash of a case confirms it")
            await CaseRepository(connection).confirm(
                log_index, reader.member, comment=comment, now=now
            )


async def _find(connection: Connection, asking: Asking, reader: Reader, log_index: int) -> CaseRow:
    rows = await CaseRepository(connection).read_cases(asking, after=log_index - 1, limit=1)
    if not rows or rows[0].log_index != log_index or _is_disregarded(rows[0], reader.registry):
        raise NotFoundError(f"there is no open case {log_index} for you")
    return rows[0]


def _asking(reader: Reader) -> Asking:
    registry, member = reader.registry, reader.member
    readable = registry.readable_sets(member)
    is_auditor = Role.AUDITOR in registry.member(member).roles
    reviewed = [
        s
        for s in readable
        if (is_auditor or registry.may_rule(member, s)) and reads_all_views(registry, member, s)
    ]
    return Asking(member, readable, reviewed)


def _is_disregarded(row: CaseRow, registry: Registry) -> bool:
    return covers(registry.member(row.member).spans, row.log_index)


def _as_seen(row: CaseRow, said: list[ConfirmationRow], asking: Asking, registry: Registry) -> Case:
    own = [one for one in said if one.log_index == row.log_index]
    if _sees_members(row.hash_set, asking, registry):
        return Case(row, own)
    nobody = MemberId("")
    shown = row if row.member == asking.member else replace(row, member=nobody)
    return Case(
        shown, [one if one.member == asking.member else replace(one, member=nobody) for one in own]
    )


def _sees_members(hash_set: HashSetId, asking: Asking, registry: Registry) -> bool:
    """Return whether the names of members show: as in provenance."""
    shown = any(view.show_members for view in registry.hash_set(hash_set).views.values())
    return shown or hash_set in asking.reviewed
