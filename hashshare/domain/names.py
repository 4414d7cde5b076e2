"""Identifiers: members, hash sets, views, records, lists. Each has one spelling."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NewType, Self

from hashshare.domain.hashes import HashAlgorithm, parse_algorithm
from hashshare.errors import MalformedError

MemberId = NewType("MemberId", str)
HashSetId = NewType("HashSetId", str)
ViewId = NewType("ViewId", str)

ID_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"
RECORD_PATTERN: Final = r"[A-Za-z0-9._:/@+=-]{1,128}"
CLASSIFICATION_PATTERN: Final = r"[A-Za-z0-9._-]{1,32}"
TERM_PATTERN: Final = rf"{ID_PATTERN}:{CLASSIFICATION_PATTERN}"

_ID: Final = re.compile(ID_PATTERN)
_TERM: Final = re.compile(TERM_PATTERN)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def parse_id(text: str, *, what: str) -> str:
    """Return ``text`` if it can name a member, hash set or view.

    Args:
        text: The candidate.
        what: What it names, for the message.

    Raises:
        MalformedError: It is not 1 to 63 of ``a-z 0-9 -``, or begins with ``-``.
    """
    if not _ID.fullmatch(text):
        raise MalformedError(
            f"{text!r:.40} cannot name a {what}: use 1 to 63 of a-z, 0-9 and -, not - first"
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class ListName:
    """One view of one hash set in one algorithm, written ``csam/confirmed/sha256``."""

    hash_set: HashSetId
    view: ViewId
    algorithm: HashAlgorithm

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that ``str()`` gives.

        Raises:
            MalformedError: ``text`` is not that.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise MalformedError(f"a list is written SET/VIEW/ALGORITHM, not {text!r:.40}")
        return cls(
            HashSetId(parse_id(parts[0], what="hash set")),
            ViewId(parse_id(parts[1], what="view")),
            parse_algorithm(parts[2]),
        )

    def __str__(self) -> str:
        return f"{self.hash_set}/{self.view}/{self.algorithm}"


def parse_term(text: str) -> tuple[str, str]:
    """Return vocabulary and classification of a term, written ``iwf:A``.

    Raises:
        MalformedError: ``text`` is not that.
    """
    if not _TERM.fullmatch(text):
        raise MalformedError(f"a term is written VOCABULARY:TERM, such as iwf:A, not {text!r:.80}")
    vocabulary, _, term = text.partition(":")
    return vocabulary, term


def format_time(moment: datetime) -> str:
    """Write an aware moment as UTC with whole seconds, ``2026-11-23T10:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read what ``format_time`` writes.

    Raises:
        MalformedError: ``text`` is not that, or no such moment exists.
    """
    if not _TIME.fullmatch(text):
        raise MalformedError(f"not a time like 2026-11-23T10:00:00Z: {text!r:.40}")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedError(f"no such moment: {text!r:.40}") from error
