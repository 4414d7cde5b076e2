"""Which parts of the log hold what a member submitted, with one key, or since some leaf."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from hashshare.client.following import Follower
from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.history import History
from hashshare.domain.spans import Span, join_spans
from hashshare.domain.statements import SUBMISSION_TYPE, Submission, id_of, read_submission
from hashshare.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Selection:
    """Some of a member's submissions.

    Attributes:
        since: From this leaf on.
        key_id: Signed with this key; its beginning is enough. "" for any.
        statement_id: Only this one. "" for any.
        hash_set: To this hash set. "" for any.
    """

    since: int = 0
    key_id: str = ""
    statement_id: str = ""
    hash_set: str = ""

    def holds(self, submission: Submission, statement_id: str) -> bool:
        """Return whether a submission is one of them."""
        return (
            submission.key_id.startswith(self.key_id)
            and statement_id.startswith(self.statement_id)
            and self.hash_set in ("", submission.hash_set)
        )


async def select_spans(
    follower: Follower, history: History, member: str, selection: Selection
) -> list[Span]:
    """Return the parts of the log that hold these submissions of a member, and no others of it.

    Each is verified to be the member's; that it stands where the server says is not. It is for an
    admin to look at, with a preview, before it is signed.

    Raises:
        NotFoundError: There is none.
        VerificationError: The server gave what the member did not sign.
    """
    spans: list[Span] = []
    # Adjacent in the member's own chain: what others say in between makes no difference.
    goes_on = False
    async for index, submission, statement_id in _submissions(
        follower, history, member, selection.since
    ):
        chosen = selection.holds(submission, statement_id)
        if chosen and goes_on:
            spans.append(Span(first=spans.pop().first, last=index))
        elif chosen:
            spans.append(Span(first=index, last=index))
        goes_on = chosen
    if not spans:
        raise NotFoundError(f"member {member} has no such submission")
    return join_spans(spans)


async def _submissions(
    follower: Follower, history: History, member: str, since: int
) -> AsyncIterator[tuple[int, Submission, str]]:
    index = since
    while index < history.size:
        for leaf in await follower.fetch_leaves(index, history.size):
            envelope = parse_envelope(leaf)
            # The name is in the signed payload as it is; most leaves are spared the signature.
            if envelope.payload_type == SUBMISSION_TYPE and member.encode() in envelope.payload:
                registry = history.registry_of(member, log_index=index)
                submission = read_submission(envelope, registry)
                if submission.member == member:
                    yield index, submission, id_of(envelope)
            index += 1
