"""The client: one member's way to its coalition."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from hashshare.client.admin import Admin
from hashshare.client.audited import Audited, read_audits
from hashshare.client.cases import Cases
from hashshare.client.chain import Chain
from hashshare.client.compare import Comparison
from hashshare.client.enrol import renew, replace_submission_key
from hashshare.client.export import Format, export_parquet, export_text
from hashshare.client.fallback import Skipped, Sources
from hashshare.client.feedback import Feedback
from hashshare.client.following import Follower, Offer
from hashshare.client.journal import Journal
from hashshare.client.logbook import Logbook, Position
from hashshare.client.looker import Looker
from hashshare.client.lookup import Finding, look_up, parse_in
from hashshare.client.own_certificates import OwnCertificates
from hashshare.client.profile import Profile, parse_source
from hashshare.client.pull import Pulled, PullProgress
from hashshare.client.session import Session
from hashshare.client.sources import Defaults, Reading, read_records
from hashshare.client.trusting import TRUST_AGE, TrustKeeper
from hashshare.client.verify import Verifier
from hashshare.domain.agreements import Agreement
from hashshare.domain.hashes import HashValue
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.records import Record
from hashshare.domain.statements import Operation
from hashshare.domain.trust import AcceptedPublication
from hashshare.errors import NotFoundError, UnavailableError
from hashshare.replica import ListState, Replica
from hashshare.wire.lists import HashSetDocument, HashSetList
from hashshare.wire.members import SelfDocument
from hashshare.wire.submissions import ProvenanceDocument

if TYPE_CHECKING:
    # Imported where they are used, below: batches take numpy, which is slow to import, and most
    # of what a member does takes no batches.
    from hashshare.client.audit import Auditor
    from hashshare.client.push import Pushed, PushProgress

WAIT_SECONDS: Final = 50
REST_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Repaired:
    """What checking a list of the replica came to.

    Attributes:
        damaged: Buckets whose bytes were not those of the signed root.
        repaired: How many of them are whole again.
    """

    list_name: str
    buckets: int
    damaged: list[int]
    repaired: int


class Client:
    """Pushes, pulls, watches and looks up for one member; use it as a context.

    Everything that is pulled is verified before the replica changes. May be used by several
    tasks, and several processes may use one profile.
    """

    def __init__(self, profile: Profile, *, sources: Iterable[str] = ()) -> None:
        """Take a profile.

        Args:
            profile: Whose member it is.
            sources: Base URLs to read the log and lists from, in this order: of mirrors, or the
                server. Without any: the profile's mirrors, and then the server. What is
                written goes to the server in any case.
        """
        self.profile = profile
        chosen = tuple(map(parse_source, sources))
        self._urls = chosen or (*profile.sources, profile.api_url)
        self._stack = AsyncExitStack()
        self._pending: Logbook | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.session = await stack.enter_async_context(Session.of(self.profile))
            self.replica = stack.enter_context(Replica.open(self.profile.replica_path))
            self._keeper = TrustKeeper(self.profile, self.session)
            self._journal = Journal.open(self.profile.journal_path)
            stack.callback(self._journal.close)
            logbook = Logbook.open(self.profile.logbook_path)
            stack.callback(logbook.close)
            self._follower = Follower(
                self.profile, self.session, logbook, renew_trust=self._renew_trust
            )
            self._verifier = Verifier(self.profile, self.session, self.replica, self._follower)
            self._sources = await stack.enter_async_context(
                Sources.open(self._urls, self._verifier)
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def admin(self) -> Admin:
        """What admins do."""
        # Also while witnesses are away, whom an admin may have to replace.
        if self._pending is None:
            self._pending = Logbook.open(self.profile.folder / "pending.sqlite")
            self._stack.callback(self._pending.close)
        ahead = replace(self._follower, logbook=self._pending, offer=Offer.NEWEST)
        return Admin(self.profile, self.session, replace(self._verifier, follower=ahead))

    @property
    def certificates(self) -> OwnCertificates:
        """This member's certificates, for scripts and data centres."""
        return OwnCertificates(self.profile, self.session)

    @property
    def feedback(self) -> Feedback:
        """What hashes did for this member, and for others."""
        return Feedback(self.session)

    @property
    def chain(self) -> Chain:
        """This member's own submissions in the log."""
        return Chain(self._follower, self._journal)

    @property
    def cases(self) -> Cases:
        """Open cases that concern this member."""
        return Cases(self.session)

    @property
    def comparison(self) -> Comparison:
        """Comparing what this profile was shown with what others were."""
        return Comparison(self.profile, self.session, self._follower.logbook)

    @property
    def auditor(self) -> "Auditor":
        """Audit by replay of what the first source gives, in the folder ``audit``."""
        from hashshare.client.audit import Auditor

        return Auditor(self._sources.verifiers[0].follower, self.profile.folder / "audit")

    async def audits(self) -> list[Audited]:
        """Return what auditors vouch for, verified against the log as far as it was read."""
        return await read_audits(self._follower)

    @property
    def old_since(self) -> datetime | None:
        """When witnesses confirmed last what is held, if that is longer ago than it should be."""
        times = (verifier.follower.progress.old_since for verifier in self._sources.verifiers)
        return next((moment for moment in times if moment is not None), None)

    @property
    def agreement(self) -> Agreement | None:
        """What this member has accepted, by the registry as far as the log was followed."""
        registry = self._follower.logbook.position(self.profile.trust).history.registry
        member = registry and registry.members.get(self.profile.member)
        return (member.agreement or None) if member else None

    @property
    def skipped(self) -> list[Skipped]:
        """Sources that were passed over, each with the reason."""
        return self._sources.skipped

    async def follow(self) -> Position:
        """Read and verify the log up to its newest checkpoint."""
        await self.keep_trust(max_age=TRUST_AGE)
        return await self._follower.follow()

    async def keep_trust(self, *, max_age: timedelta = timedelta()) -> bool:
        """Believe the trust document in force, if it was looked for longer ago than ``max_age``.

        Returns:
            Whether it is another one than before.

        Raises:
            VerificationError: What the server shows does not hold, or has expired.
            UnavailableError: The server cannot be reached, and what is known has not expired.
        """
        renewed = await self._keeper.keep(max_age=max_age)
        self._believe(self._keeper.profile)
        return renewed

    async def _renew_trust(self) -> Profile | None:
        """Return the profile with a newer trust document, None if there is none."""
        return self.profile if await self.keep_trust() else None

    async def _keep_trust_if_reached(self) -> None:
        """Keep up with the trust root; with mirrors, also go on without the server.

        Only the server shows the trust root. What is known of it ends after a week, and then
        nothing is pulled from a mirror either.
        """
        others = any(url != self.profile.api_url for url in self._urls)
        with suppress(*([UnavailableError] if others else [])):
            await self.keep_trust(max_age=TRUST_AGE)

    def _believe(self, profile: Profile) -> None:
        self.profile = profile
        self._follower = replace(self._follower, profile=profile)
        self._verifier = replace(self._verifier, profile=profile, follower=self._follower)
        self._sources = self._sources.believing(profile, self.session.tls)

    async def whoami(self) -> SelfDocument:
        """Return who this member is to the server, and what it may."""
        return await self.session.get("/v1/self", SelfDocument)

    async def hash_sets(self) -> list[HashSetDocument]:
        """Return the hash sets that this member may read."""
        return (await self.session.get("/v1/hash-sets", HashSetList)).hash_sets

    async def records_of(self, statement_id: str) -> list[Record]:
        """Return the records of one of this member's submissions, from its batch.

        Raises:
            NotFoundError: This member has no such submission.
            DigestMismatchError: The batch is not the one that was signed.
        """
        from hashshare.client.own import fetch_records

        return await fetch_records(self.session, statement_id)

    async def push(
        self,
        hash_set: str,
        source: Path | Iterable[Record],
        *,
        operation: Operation = Operation.ASSERT,
        classification: str | None = None,
        progress: "PushProgress | None" = None,
    ) -> "list[Pushed]":
        """Submit a file, or records, and return the receipts; none if all was said before.

        Raises:
            BatchFaultsError: Rows are faulty; nothing was submitted.
            PermissionDeniedError: The member may not contribute.
            UnavailableError: The server cannot be reached; what is under way goes on with the
                next push.
        """
        from hashshare.client.push import Pusher, PushProgress

        if isinstance(source, Path):
            defaults = Defaults(operation, classification=classification)
            source = read_records(source, defaults, Reading())
        pusher = Pusher(self.profile, self.session, self._journal, self._renew_trust)
        return await pusher.push(
            HashSetId(hash_set),
            operation,
            source,
            now=datetime.now(UTC),
            progress=progress or PushProgress(),
        )

    async def pull(self, *lists: str, progress: PullProgress | None = None) -> list[Pulled]:
        """Bring lists up to date; all that this member may read when none is named.

        Raises:
            VerificationError: What the server gave does not hold; nothing is changed.
            OmissionError: It holds, but a submission of this member was dropped.
            KeyMisuseError: It holds, but somebody else submits with a key of this member.
            UnavailableError: No source can be reached; nothing is changed.
        """
        shown = progress or PullProgress()
        await self._keep_trust_if_reached()
        for hash_set, names in (await self._wanted(lists, published=True)).items():
            # A hash set without a publication yet has nothing to pull.
            with suppress(*([] if lists else [NotFoundError])):
                shown.pulled += await self._sources.pull(hash_set, names, shown)
        await self.verify_chain()
        return shown.pulled

    async def verify_chain(self) -> None:
        """Compare this member's own submissions with what the log holds of it, once followed.

        Raises:
            OmissionError: A submission with a receipt is not in the log.
            KeyMisuseError: A key of this profile signed what was not signed here.
        """
        await self.chain.verify()

    async def watch(self, *lists: str) -> AsyncIterator[Pulled]:
        """Pull, and go on pulling as soon as there is news; yields what changed.

        Goes on when the server cannot be reached for a while.
        """
        for pulled in await self.pull(*lists):
            yield pulled
        while True:
            await self._keep_trust_if_reached()
            wanted = await self._wanted(lists)
            async for hash_set in self._sources.news_of(list(wanted), seconds=WAIT_SECONDS):
                results = await self._sources.pull(hash_set, wanted[hash_set], PullProgress())
                for pulled in results:
                    yield pulled
                if all(pulled.base == pulled.version for pulled in results):
                    # Published, but not cosigned by enough witnesses yet.
                    await asyncio.sleep(REST_SECONDS)
                await self.verify_chain()

    async def latest(self, hash_set: str) -> AcceptedPublication:
        """Return the latest publication of a hash set, verified; changes nothing."""
        return (await self._verifier.verify_news(HashSetId(hash_set))).accepted

    async def lookup(self, list_name: str, values: Iterable[HashValue | str]) -> list[Finding]:
        """Return what the replica's list says of each hash; asks no server.

        Raises:
            NotFoundError: The list was not pulled.
            MalformedError: A hash is of another algorithm.
        """
        return look_up(self.replica, ListName.parse(list_name), values)

    async def lookup_remote(self, list_name: str, value: HashValue | str) -> Finding:
        """Return whether the signed list holds a hash, proven; the list need not be pulled."""
        name = ListName.parse(list_name)
        return await Looker(self._verifier).lookup_remote(name, parse_in(value, name))

    async def provenance(self, hash_set: str, value: HashValue | str) -> ProvenanceDocument:
        """Return who ever said what of a hash, signatures and places in the log verified."""
        parsed = value if isinstance(value, HashValue) else HashValue.parse(value)
        return await Looker(self._verifier).provenance(HashSetId(hash_set), parsed)

    def lists(self) -> list[ListState]:
        """Return the lists of the replica."""
        with self.replica.reading() as reading:
            return reading.lists()

    def export(self, list_name: str, form: Format) -> Iterator[bytes]:
        """Yield an export of a list of the replica; Parquet needs ``export_parquet``."""
        with self.replica.reading() as reading:
            reading.state(list_name)
            yield from export_text(reading.entries(list_name), form)

    def export_parquet(self, list_name: str, path: Path) -> None:
        """Write a list of the replica to a Parquet file."""
        with self.replica.reading() as reading:
            count = reading.state(list_name).count
            export_parquet(path, reading.entries(list_name), count=count)

    async def check(self, list_name: str, *, repair: bool) -> Repaired:
        """Re-hash a list of the replica, and fetch damaged buckets anew if asked to.

        Raises:
            NotFoundError: The list was not pulled.
            ReplicaDamagedError: More is damaged than buckets; delete the replica and pull.
        """
        damaged, state = await asyncio.to_thread(self._find_damage, list_name)
        repaired = 0
        looker = Looker(self._verifier)
        name = ListName.parse(list_name)
        for index in damaged if repair else []:
            bucket = await looker.fetch_bucket(name, index, state.bits)
            if bucket.version != state.version:
                raise UnavailableError("the list has moved on; pull, and check again")
            attributes = {bytes.fromhex(t): a.encode() for t, a in bucket.attributes.items()}
            with self.replica.writing() as writing:
                writing.replace_bucket(
                    list_name, index, bucket.data, path=bucket.path, attributes=attributes
                )
            repaired += 1
        return Repaired(list_name, 1 << state.bits, damaged, repaired)

    async def renew(self) -> str:
        """Replace the TLS key and certificate; return until when the new one is valid."""
        return await renew(self.profile, self.session)

    async def replace_submission_key(self) -> bool:
        """Sign with a new submission key; return False if an admin has to approve it first."""
        return await replace_submission_key(self.profile, self.session)

    def _find_damage(self, list_name: str) -> tuple[list[int], ListState]:
        with self.replica.reading() as reading:
            return reading.damaged(list_name), reading.state(list_name)

    async def _wanted(
        self, lists: tuple[str, ...], *, published: bool = False
    ) -> dict[HashSetId, list[ListName] | None]:
        wanted: dict[HashSetId, list[ListName] | None] = {}
        if not lists:
            # Not the server says what a member may read, but the registry.
            return dict.fromkeys(await self._sources.readable(published=published))
        for name in map(ListName.parse, lists):
            names = wanted.setdefault(name.hash_set, [])
            if names is not None:
                names.append(name)
        return wanted
