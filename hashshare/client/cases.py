"""Cases: disputes that concern this member, and what it answers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from hashshare.client.session import Session
from hashshare.domain.hashes import HashValue
from hashshare.wire.cases import (
    CaseDocument,
    CaseList,
    ConfirmationRequest,
    DisputedDocument,
    DisputedList,
)


@dataclass(frozen=True, slots=True)
class Cases:
    """What the server knows of open cases. Rulings and withdrawals are pushed like all else."""

    session: Session

    async def open(self) -> list[CaseDocument]:
        """Return all open cases that concern this member, oldest first."""
        cases: list[CaseDocument] = []
        while True:
            after = f"?after={cases[-1].case}" if cases else ""
            page = (await self.session.get(f"/v1/cases{after}", CaseList)).cases
            if not page:
                return cases
            cases += page

    async def hashes(self, case: int) -> AsyncIterator[DisputedDocument]:
        """Yield the hashes of an open case that concern this member.

        Raises:
            NotFoundError: There is no such case, or it does not concern this member.
        """
        after: int | None = 0
        while after is not None:
            path = f"/v1/cases/{case}/hashes?after={after}"
            page = await self.session.get(path, DisputedList)
            for one in page.hashes:
                yield one
            after = page.after

    async def values(self, case: int, *, own: bool) -> list[HashValue]:
        """Return the hashes of a case, or only those that this member asserts.

        Raises:
            NotFoundError: There is no such case, or it does not concern this member.
            MalformedError: The server gave what is no hash.
        """
        return [
            HashValue.parse(one.hash) async for one in self.hashes(case) if one.yours or not own
        ]

    async def confirm(self, case: int, *, comment: str) -> None:
        """Say that this member stands by what it asserts of the hashes of a case.

        Raises:
            NotFoundError: There is no such case, or it does not concern this member.
            PermissionDeniedError: It asserts none of them.
        """
        await self.session.request(
            "POST",
            f"/v1/cases/{case}/confirmation",
            body=ConfirmationRequest(comment=comment).encode(),
        )
