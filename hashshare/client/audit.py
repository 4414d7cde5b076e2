"""Audit by replay: the log and its batches are folded again, and every published root compared.

It needs no trust in the server, and no database: the pure fold of ``domain`` makes the lists, in
files of its own below the profile. It streams, and goes on where it was.

Source: docs/protocol.md, "Auditing".
"""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hashshare.client.edition import Edition
from hashshare.client.findings import Findings, Report, Standing, Verdict, Waiting
from hashshare.client.following import Follower
from hashshare.client.opinions import OpinionFile
from hashshare.domain.history import History, Logged
from hashshare.domain.members import Role
from hashshare.domain.names import MemberId
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import Publication, PublishedList, Submission
from hashshare.errors import (
    BatchFaultsError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    ProofInvalidError,
    ReplicaDamagedError,
    TooLargeError,
)
from hashshare.replica import Replica
from hashshare.wire.batch import BatchRules, read_batch

MAX_BATCH_BYTES: Final = 1024**3


@dataclass(slots=True)
class AuditProgress:
    """How far an audit is: leaves of the log, and records so far."""

    leaf: int = 0
    size: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class Auditor:
    """Replays the log of one coalition into files below ``folder``.

    Attributes:
        follower: Reads the log, and has verified it up to where the audit ends.
        folder: Of the audit's own; may be deleted, to begin anew.
    """

    follower: Follower
    folder: Path
    progress: AuditProgress = field(default_factory=AuditProgress)

    async def audit(self) -> Report:
        """Fold the log up to its newest checkpoint, and compare every publication.

        Goes on where an earlier audit ended, or was killed.

        Raises:
            VerificationError: The log itself does not hold.
            UnavailableError: The server cannot be reached; the same again goes on.
        """
        position = await self.follower.follow()
        target = position.history
        self.folder.mkdir(mode=0o700, exist_ok=True)
        opinions = OpinionFile.open(self.folder / "opinions.sqlite")
        try:
            with Replica.open(self.folder / "lists.sqlite") as lists:
                replay = _Replay(self, target, opinions, lists, *self._resume(opinions))
                await replay.run()
                return Report(
                    log=target.trust.log,
                    size=target.size,
                    root=target.frontier.root().hex(),
                    note=position.note.decode(),
                    hash_sets=replay.findings.standings,
                    records=replay.findings.records,
                    submissions=replay.findings.submissions,
                    redactions=sorted(target.redactions),
                )
        finally:
            opinions.close()

    def delete(self) -> None:
        """Forget every earlier audit."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resume(self, opinions: OpinionFile) -> tuple[History, Findings]:
        state = opinions.get_state("history")
        trust = self.follower.profile.trust
        if state is None:
            return History(trust), Findings()
        registry = opinions.get_state("registry") or b""
        findings = opinions.get_state("findings") or b""
        return History.decode(trust, state, registry), Findings.decode(findings)


@dataclass(frozen=True, slots=True)
class _Replay:
    """One run over the leaves that were not folded yet."""

    auditor: Auditor
    target: History
    opinions: OpinionFile
    lists: Replica
    history: History
    findings: Findings

    async def run(self) -> None:
        progress, size = self.auditor.progress, self.target.size
        progress.size, progress.records = size, self.findings.records
        while self.history.size < size:
            progress.leaf = self.history.size
            leaves = await self.auditor.follower.fetch_leaves(self.history.size, size)
            for leaf in leaves:
                await self._replay(leaf)
                progress.leaf += 1
        if self.history.frontier.root() != self.target.frontier.root():
            # What was folded is not the log that was verified: none of it counts.
            self.opinions.close()
            self.auditor.delete()
            raise ProofInvalidError("the leaves that were given are not those of the signed log")

    async def _replay(self, leaf: bytes) -> None:
        documents = await self.auditor.follower.fetch_registries([leaf])
        (logged,) = self.history.extend([leaf], documents)
        if isinstance(logged.statement, Publication):
            await self._publish(logged, logged.statement)
            return
        with self.opinions.transaction():
            if isinstance(logged.statement, Submission) and self.history.registry is not None:
                self.findings.submissions += 1
                waiting = Waiting(
                    logged.index,
                    logged.statement_id,
                    logged.statement,
                    self.history.registry.version,
                    logged.alone,
                )
                self.findings.waiting.setdefault(waiting.submission.hash_set, []).append(waiting)
            self._remember()

    async def _publish(self, logged: Logged, publication: Publication) -> None:
        """Fold what a publication covers, and compare it."""
        waiting = self.findings.waiting.get(publication.hash_set, [])
        # What came into the log while the version was made is for the next one.
        while waiting and waiting[0].index < publication.log_size:
            await self._fold(waiting[0])
        await self._compare(logged, publication)

    async def _fold(self, waiting: Waiting) -> None:
        """Take in one submission, or note why it cannot be."""
        standing = self.findings.of(waiting.submission.hash_set)
        path = None
        if not standing.is_blind:
            path = await self._download(waiting, standing)
        await asyncio.to_thread(self._apply, waiting, path)

    async def _download(self, waiting: Waiting, standing: Standing) -> Path | None:
        session, batch = self.auditor.follower.session, waiting.submission.batch
        path = self.auditor.folder / "batch.zst"
        try:
            async with session.stream(f"/v1/batches/{batch.sha256}") as (_, chunks):
                with path.open("wb") as file:
                    async for chunk in chunks:
                        file.write(chunk)
                        if file.tell() > MAX_BATCH_BYTES:
                            raise TooLargeError("the batch is longer than any batch is")
        except NotFoundError:
            if batch.sha256 in self.target.redactions:
                standing.redact(waiting)
            elif self._may_read(waiting.submission):
                standing.withhold(waiting, "its batch is not there")
            else:
                standing.blind(waiting)
            return None
        return path

    def _may_read(self, submission: Submission) -> bool:
        """Return whether the server owes this reader the batch of a submission."""
        registry, reader = self.target.registry, self.auditor.follower.profile.member
        if registry is None or submission.member == reader:
            return True
        return bool({Role.ADMIN, Role.AUDITOR} & set(registry.member(reader).roles))

    def _apply(self, waiting: Waiting, path: Path | None) -> None:
        with self.opinions.transaction():
            if path is not None:
                self._apply_batch(waiting, path)
            self.findings.waiting[waiting.submission.hash_set].pop(0)
            # The history stays before the publication, which is not compared yet.
            self.opinions.put_state("findings", self.findings.encode())
        if path is not None:
            path.unlink()

    def _apply_batch(self, waiting: Waiting, path: Path) -> None:
        submission = waiting.submission
        hash_set = self._registry(waiting.registry_version).hash_set(submission.hash_set)
        rules = BatchRules(
            operation=submission.operation,
            algorithms=frozenset(hash_set.algorithms),
            classifications=frozenset(hash_set.classifications),
            count=submission.batch.count,
        )
        try:
            columns = read_batch(
                _chunks_of(path), submission.batch, rules, max_bytes=submission.batch.size
            )
        except (BatchFaultsError, DigestMismatchError, MalformedError, TooLargeError) as error:
            # It may not have been accepted: the server's fault, and what follows is not known.
            standing = self.findings.of(submission.hash_set)
            standing.withhold(waiting, f"its batch is wrong: {error}")
            return
        number = self.findings.number_of(submission.hash_set)
        member = MemberId(submission.member)
        self.opinions.apply(
            number, member, columns.records(), log_index=waiting.index, alone=waiting.alone
        )
        self.findings.records += columns.count
        self.auditor.progress.records += columns.count

    async def _compare(self, logged: Logged, publication: Publication) -> None:
        """Bring the audit's own lists to a publication, and compare what was signed."""
        standing = self.findings.of(publication.hash_set)
        differing: list[PublishedList] = []
        edition = None
        if not standing.is_blind:
            edition = self._edition(publication)
            redacted = standing.verdict is Verdict.REDACTED
            differing = await asyncio.to_thread(edition.apply, keep=redacted)
            if differing and not redacted:
                buckets = {str(edition.name(p)): await edition.locate(p) for p in differing}
                standing.differ(logged, buckets)
        with self.opinions.transaction():
            if edition is not None and not differing:
                standing.agree(publication.version)
            if edition is not None and not standing.is_blind:
                self.opinions.forget_touched(edition.number)
                self.findings.published[publication.hash_set] = publication.registry_version
            self._remember()

    def _edition(self, publication: Publication) -> Edition:
        hash_set = publication.hash_set
        followed = self.findings.published.get(hash_set)
        return Edition(
            publication=publication,
            number=self.findings.number_of(hash_set),
            opinions=self.opinions,
            lists=self.lists,
            session=self.auditor.follower.session,
            old=None if followed is None else self._registry(followed),
            new=self._registry(publication.registry_version),
        )

    def _registry(self, version: int) -> Registry:
        document = self.opinions.get_state(f"registry/{version}")
        if document is None:
            raise ReplicaDamagedError("the audit's file is damaged; begin anew")
        return parse_registry(document)

    def _remember(self) -> None:
        registry = self.history.registry
        if registry is not None:
            self.opinions.put_state(f"registry/{registry.version}", self.history.registry_document)
        self.opinions.put_state("history", self.history.encode())
        self.opinions.put_state("registry", self.history.registry_document)
        self.opinions.put_state("findings", self.findings.encode())


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(65_536):
            yield chunk
