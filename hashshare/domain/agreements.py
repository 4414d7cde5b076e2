"""Agreements: which legal text an organization has accepted, who signed it, until when it reads.

The registry names the text by its digest; the text itself stays with those who signed. That an
agreement has ended is a matter of the moment, and so no rule of the fold: it stops reading, and
what is in a list does not depend on it.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from hashshare.domain.documents import Digest, Document, Text, Time
from hashshare.domain.names import format_time, parse_time
from hashshare.errors import MalformedError, PermissionDeniedError

WARN_BEFORE: Final = timedelta(days=30)


class Agreement(Document, frozen=True):
    """That an organization accepted a legal text.

    Attributes:
        text: SHA-256 of the text's file.
        signed_by: The person who signed for it, and in what office.
        signed_at: When.
        until: From then on it reads nothing more.
    """

    text: Digest
    signed_by: Text
    signed_at: Time
    until: Time

    @property
    def ends(self) -> datetime:
        """When reading stops."""
        return parse_time(self.until)


def verify_agreement(agreement: Agreement) -> None:
    """Refuse an agreement that contradicts itself.

    Raises:
        MalformedError: It ends before it begins, or a time is none.
    """
    if parse_time(agreement.until) <= parse_time(agreement.signed_at):
        raise MalformedError("an agreement ends after it was signed")


def verify_reading(
    agreement: Agreement | msgspec.UnsetType, *, required: bool, now: datetime
) -> None:
    """Refuse reading to a member without the agreement that it needs.

    Args:
        agreement: The member's.
        required: Whether who has none may not read.
        now: This moment.

    Raises:
        PermissionDeniedError: It has ended, or there is none.
    """
    then = "; an admin records the next one: hashshare member agreement"
    if isinstance(agreement, msgspec.UnsetType):
        if required:
            raise PermissionDeniedError(f"who reads has to have accepted the agreement{then}")
    elif now >= agreement.ends:
        raise PermissionDeniedError(
            f"the agreement has ended at {format_time(agreement.ends)}{then}"
        )
