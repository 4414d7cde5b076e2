"""Verifying the server's news: nothing is believed before this module says so.

Source: docs/protocol.md, "Pulling", steps 1 to 5.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from hashshare.client.following import Follower, FollowProgress
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.documents import decode_document
from hashshare.domain.history import History
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.registry import Registry
from hashshare.domain.release import readable_lists
from hashshare.domain.statements import Publication, id_of
from hashshare.domain.trust import AcceptedPublication, verify_progress
from hashshare.errors import EquivocationError, NotFoundError, VerificationError
from hashshare.replica import Reading, Replica

MAX_BUNDLE_BYTES: Final = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class News:
    """A publication that is to be believed.

    Attributes:
        envelope: The publication's leaf.
        lists: Of the hash set those that this member may read, by the registry in force.
    """

    accepted: AcceptedPublication
    envelope: bytes
    lists: tuple[ListName, ...]


@dataclass(frozen=True, slots=True)
class Verifier:
    """What one member has accepted, and the way to accept more."""

    profile: Profile
    session: Session
    replica: Replica
    follower: Follower

    def reading_from(self, session: Session) -> "Verifier":
        """Return a verifier of what another source gives, into the same replica and logbook."""
        follower = replace(self.follower, session=session, progress=FollowProgress())
        return replace(self, session=session, follower=follower)

    async def verify_news(self, hash_set: HashSetId) -> News:
        """Follow the log and return the latest publication in it, to be believed (steps 1 to 5).

        Raises:
            NotFoundError: There is none, or no such hash set for this member.
            VerificationError: Something that was signed does not hold.
        """
        history = await self.history()
        accepted = history.publications.get(hash_set)
        registry = history.registry
        if accepted is None or not (registry and registry.may_read(self.profile.member, hash_set)):
            raise NotFoundError(f"no hash set {hash_set!r:.70}, or nothing is published of it yet")
        # 5. The version is not lower than the one held, nor another of the same number.
        held = await self.read(lambda r: self.held_publication(r, hash_set))
        envelope = history.envelope_of(hash_set)
        try:
            verify_progress(accepted, held)
        except EquivocationError as error:
            self.follower.progress.is_fork_proven = True
            self.follower.keep_fork(error, leaves=[envelope])
            raise
        lists = readable_lists(registry, self.profile.member, hash_set)
        return News(accepted, envelope, tuple(lists))

    async def history(self) -> History:
        """Return all that the log says until now, verified; see ``Follower.follow``."""
        return (await self.follower.follow()).history

    async def registry(self) -> Registry:
        """Return the registry in force, each version signed by those whom the log names."""
        registry = (await self.history()).registry
        if registry is None:
            raise VerificationError("the log does not begin with a registry")
        return registry

    async def wait_for_news(self, hash_set: HashSetId, *, seconds: int) -> bool:
        """Wait until there is a version newer than the one held; False when there is none."""
        held = await self.read(lambda r: self.held_publication(r, hash_set))
        version = 0 if held is None else held.publication.version
        status, _ = await self.session.request(
            "GET",
            f"/v1/hash-sets/{hash_set}/publication",
            headers={"If-None-Match": f'"{version}"', "Prefer": f"wait={seconds}"},
            max_bytes=MAX_BUNDLE_BYTES,
        )
        return status == 200

    def held_publication(self, reading: Reading, hash_set: HashSetId) -> AcceptedPublication | None:
        """Return the publication of a hash set whose lists the replica holds."""
        envelope = reading.get_state(f"publication/{hash_set}")
        index = reading.get_state(f"log_index/{hash_set}")
        if envelope is None or index is None:
            return None
        parsed = parse_envelope(envelope)
        publication = decode_document(parsed.payload, Publication)
        return AcceptedPublication(publication, id_of(parsed), int(index))

    async def read(self, read: Callable[[Reading], T]) -> T:
        """Return what ``read`` makes of one state of the replica."""

        def run() -> T:
            with self.replica.reading() as reading:
                return read(reading)

        return await asyncio.to_thread(run)
