"""The member's own chain: the log holds just the submissions that this member has signed.

What has a receipt and is missing was dropped by the server. What is there and was never signed
here means that somebody else has the key, or that the journal was lost.

Source: docs/protocol.md, "Pulling", step 9.
"""

from contextlib import suppress
from dataclasses import dataclass

from hashshare.client.evidence import keep_evidence
from hashshare.client.following import Follower
from hashshare.client.journal import Journal
from hashshare.client.logbook import OwnSubmission
from hashshare.errors import (
    HashshareError,
    KeyMisuseError,
    NotFoundError,
    OmissionError,
    VerificationError,
)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the log holds of this member, beside what the journal knows."""

    follower: Follower
    journal: Journal

    def submissions(self) -> list[OwnSubmission]:
        """Return what keys of this profile signed, in the order of the log, as far as verified."""
        return self.follower.logbook.own_submissions()

    def strangers(self) -> list[OwnSubmission]:
        """Return those of them that the journal does not know, and nobody has adopted."""
        # In this order: what is sent meanwhile is in the journal before it is in the log.
        submissions = self.submissions()
        known = self.journal.statement_ids()
        return [s for s in submissions if s.statement_id not in known and not s.adopted]

    async def verify(self) -> None:
        """Compare the log, as far as it was followed, with the journal.

        Raises:
            OmissionError: A submission with a receipt is not where the receipt says.
            KeyMisuseError: A key of this profile signed what the journal does not know.
        """
        size = self.follower.logbook.size()
        places = {s.statement_id: s.log_index for s in self.submissions()}
        for received in self.journal.received():
            if received.log_index >= size:
                break
            if places.get(received.statement_id) != received.log_index:
                raise await self._omitted(received.log_index, received.receipt)
        if strangers := self.strangers():
            raise await self._misused(strangers)

    def adopt(self, statement_id: str) -> None:
        """Take a submission for this member's own that another machine of it has signed.

        Raises:
            NotFoundError: There is none of that id in the log, as far as it was followed.
        """
        if not self.follower.logbook.adopt(statement_id):
            raise NotFoundError("no key of this profile signed such a submission")

    async def _omitted(self, log_index: int, receipt: bytes) -> OmissionError:
        error = OmissionError(f"the log does not hold this member's submission at leaf {log_index}")
        position = self.follower.logbook.position(self.follower.profile.trust)
        leaves = await self._fetch([log_index])
        self._keep(error, notes=[position.note], leaves=leaves, receipts=[receipt])
        return error

    async def _misused(self, strangers: list[OwnSubmission]) -> KeyMisuseError:
        first = strangers[0]
        error = KeyMisuseError(
            f"a key of this profile signed {len(strangers)} submissions that were not made here,"
            f" the first one is leaf {first.log_index}"
        )
        self._keep(error, leaves=await self._fetch([s.log_index for s in strangers[:20]]))
        return error

    async def _fetch(self, indexes: list[int]) -> list[bytes]:
        """Return leaves as far as the server gives them: it must not silence the alarm."""
        leaves = []
        with suppress(HashshareError):
            for index in indexes:
                _, leaf = await self.follower.session.request("GET", f"/v1/log/entries/{index}")
                leaves.append(leaf)
        return leaves

    def _keep(self, error: VerificationError, **signed: list[bytes]) -> None:
        profile = self.follower.profile
        path = keep_evidence(profile.folder, reason=str(error), log=profile.trust.log, **signed)
        error.add_note(f"evidence: {path}")
