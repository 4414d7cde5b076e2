"""Retractions: when a hash left a list, and who was sent a version that still has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashValue
from hashshare.domain.names import HashSetId, ListName, MemberId
from hashshare.domain.registry import Registry
from hashshare.errors import NotFoundError
from hashshare.storage.changes import unpack_changes
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.members import MembersRepository, PullRow
from hashshare.storage.publications import PublicationRepository

_EVER: Version = Version(2**53 - 1)


@dataclass(frozen=True, slots=True)
class Holder:
    """What the server knows of one member and one hash of a list.

    Attributes:
        version: That it was sent last.
        has_it: Whether the hash is in that version.
    """

    member: MemberId
    version: Version
    pulled_at: datetime
    has_it: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """When a hash was in a list.

    Attributes:
        entered: The version in which it came last.
        left: The version in which it left after that, None while it is listed.
        holders: Every member that was sent the list.
    """

    name: ListName
    entered: Version
    left: Version | None
    holders: list[Holder]


@dataclass(frozen=True, slots=True)
class RetractionService:
    """Tells who was sent what. It knows what left the server, not what members did with it."""

    pool: Pool

    async def read(
        self, registry: Registry, hash_set: HashSetId, value: HashValue
    ) -> list[Presence]:
        """Return for each list that holds or held a hash when it did, and who was sent it.

        Raises:
            NotFoundError: No list of the hash set ever held it.
        """
        found = []
        async with snapshot(self.pool) as connection:
            publications = PublicationRepository(connection)
            pulls = await MembersRepository(connection).read_pulls()
            for name in registry.lists(hash_set):
                if name.algorithm is value.algorithm:
                    steps = await read_steps(publications, name, value)
                    if steps:
                        found.append(_to_presence(name, steps, pulls))
        if not found:
            raise NotFoundError(f"no list of {hash_set} ever held this hash")
        return found


async def read_steps(
    publications: PublicationRepository, name: ListName, value: HashValue
) -> list[tuple[Version, bool]]:
    """Return the versions that changed the entry, each with whether it is there from then on."""
    key = value.algorithm.key(value.value)
    runs = await publications.read_runs(
        name, base=Version(0), target=_EVER, first_key=key, before_key=key + b"\0"
    )
    return [
        (version, change.after is not None)
        for version, packed in runs
        for change in unpack_changes(value.algorithm, packed)
        if change.value == value.value
    ]


def _to_presence(
    name: ListName, steps: list[tuple[Version, bool]], pulls: Iterable[PullRow]
) -> Presence:
    entered, is_there = steps[0]
    for (_, before), (version, after) in pairwise(steps):
        if after and not before:
            entered = version
        is_there = after
    left = None if is_there else steps[-1][0]
    holders = [
        Holder(
            MemberId(row.member),
            Version(row.version),
            row.pulled_at,
            any(there for version, there in _latest(steps, row.version)),
        )
        for row in pulls
        if row.list_name == str(name)
    ]
    return Presence(name, entered, left, sorted(holders, key=lambda holder: holder.member))


def _latest(steps: list[tuple[Version, bool]], version: int) -> list[tuple[Version, bool]]:
    """Return the last step that a version has in it, if any."""
    return [step for step in steps if step[0] <= version][-1:]
