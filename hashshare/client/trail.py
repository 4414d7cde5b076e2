"""Reading the audit trail, page by page."""

from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urlencode

from hashshare.client.session import Session
from hashshare.wire.trail import TrailEntryDocument, TrailPage

_PAGE: Final = 1000


async def fetch_trail(
    session: Session, chosen: Mapping[str, str | None], *, most: int | None
) -> AsyncIterator[TrailEntryDocument]:
    """Yield the entries that a query chooses, at most ``most`` of them.

    Args:
        session: An admin's, or an auditor's.
        chosen: Parameters of the query; None for one that is left out.
        most: None for all.
    """
    query = {name: value for name, value in chosen.items() if value is not None}
    left = most
    while left is None or left > 0:
        query["limit"] = str(_PAGE if left is None else min(left, _PAGE))
        page = await session.get(f"/v1/trail?{urlencode(query)}", TrailPage)
        for entry in page.entries:
            yield entry
        if page.next is None:
            return
        query["at"] = str(page.next)
        left = None if left is None else left - len(page.entries)
