"""Witnessing: collecting cosignatures, and giving out what a quorum has seen.

Source: docs/protocol.md, "Witnesses".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from hashshare.crypto.cosignature import WitnessVerifier, verify_cosignature
from hashshare.crypto.note import SignedText, parse_checkpoint, parse_note
from hashshare.crypto.policy import NamedWitness
from hashshare.domain.registry import Registry, parse_registry
from hashshare.errors import (
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    PermissionDeniedError,
    QuorumMissingError,
    UnavailableError,
)
from hashshare.service.log import LogService
from hashshare.service.registry import RegistryService
from hashshare.storage.cosignatures import AuditCosignature, CosignatureRepository, Cosigned
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.registry import RegistryRepository

_LOG: Final = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=2)
"""So long one size is offered to all witnesses: under load none would meet the others else."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What an auditor audited last.

    Attributes:
        auditor: Its name in the trust policy.
        note: The checkpoint that it cosigned, with its line.
    """

    auditor: str
    note: bytes


@dataclass(frozen=True, slots=True)
class WitnessService:
    """Collects cosignatures. May be used by several tasks and processes at once."""

    pool: Pool
    log: LogService
    registries: RegistryService

    async def checkpoint(self, size: int) -> bytes:
        """Return the newest checkpoint that meets the trust policy of its own tree.

        Args:
            size: Of the log.

        Raises:
            UnavailableError: There is a policy from the beginning on, and no quorum yet.
        """
        policy = (await self.registries.current()).registry.policy
        if policy is None:
            return await self.log.checkpoint_at(size)
        for cosigned in await self._read():
            note = await self._note(cosigned)
            if await self._is_met(cosigned.size, note):
                return note
        return await self._before_policies()

    async def pending(self, size: int, *, now: datetime) -> bytes:
        """Return the checkpoint that witnesses are to cosign, with what there is already.

        Args:
            size: Of the log.
            now: Aware.
        """
        begun = next(iter(await self._read()), None)
        if begun is not None:
            note = await self._note(begun)
            is_recent = now - begun.first_at < PATIENCE
            if begun.size == size or (is_recent and not await self._is_met(begun.size, note)):
                return note
        return await self.log.checkpoint_at(size)

    async def audits(self) -> list[Audited]:
        """Return what each auditor of the trust policy has audited last."""
        policy = (await self.registries.current()).registry.cosigners
        async with snapshot(self.pool) as connection:
            kept = {a.cosigner: a for a in await CosignatureRepository(connection).read_audits()}
        found = []
        for auditor in policy.auditors if policy else ():
            if audit := kept.get(_cosigner(auditor.verifier)):
                note = await self.log.checkpoint_at(audit.size)
                found.append(Audited(auditor.name, note + f"{audit.line}\n".encode()))
        return found

    async def _own(self, size: int, note: bytes) -> bytes:
        try:
            return await self.log.checkpoint_at(size)
        except NotFoundError:
            # If this log's key did sign it, then it is the database that lacks leaves.
            await self.log.guard.learn(note)
            raise

    async def cosign(self, note: bytes, *, now: datetime) -> int:
        """Keep the cosignatures in ``note`` by witnesses and auditors of the trust policy.

        Durable once it returns; idempotent.

        Returns:
            How many were kept.

        Raises:
            MalformedError: It is no checkpoint.
            NotFoundError: The log is not that long.
            RollbackError: It was; nothing more is signed.
            MixAndMatchError: It is of another log, or of a tree that this log never had.
            SignatureInvalidError: A witness did not sign what its line says.
            PermissionDeniedError: None of its lines is by one of these.
        """
        signed = parse_note(note)
        checkpoint = parse_checkpoint(signed.text)
        if checkpoint.size == 0:
            raise MalformedError("an empty log needs no witness")
        own = parse_note(await self._own(checkpoint.size, note))
        if own.text != signed.text:
            # Its witness was shown another log, under the same key: it must hear of that.
            raise MixAndMatchError("this log never had that checkpoint")
        policy = (await self.registries.current()).registry.cosigners
        lines = _lines_of(signed, policy.voters if policy else (), note)
        audits = _lines_of(signed, policy.auditors if policy else (), note)
        if not lines and not audits:
            raise PermissionDeniedError("no witness of the trust policy has cosigned this")
        known = await self._times(checkpoint.size, policy.voters if policy else ())
        async with transaction(self.pool) as connection:
            repository = CosignatureRepository(connection)
            for line in lines:
                # One that is sent again, by whomever, must not make the log look older.
                if line.at >= known.get(line.cosigner, line.at):
                    await repository.put(checkpoint.size, line.cosigner, line.text, now=now)
            for line in audits:
                audit = AuditCosignature(line.cosigner, checkpoint.size, line.text)
                await repository.put_audit(audit, signed_at=line.at, now=now)
        if lines:
            await self._forget_older(checkpoint.size)
        return len(lines) + len(audits)

    async def _forget_older(self, size: int) -> None:
        for cosigned in await self._read():
            if cosigned.size == size and await self._is_met(size, await self._note(cosigned)):
                async with transaction(self.pool) as connection:
                    await CosignatureRepository(connection).forget_below(size)
                _LOG.info("checkpoint cosigned", size=size, witnesses=len(cosigned.lines))

    async def _times(self, size: int, witnesses: Sequence[NamedWitness]) -> dict[str, datetime]:
        """Return when witnesses cosigned a size, by cosigner, as far as it is kept."""
        for cosigned in await self._read():
            if cosigned.size == size:
                note = await self._note(cosigned)
                return {x.cosigner: x.at for x in _lines_of(parse_note(note), witnesses, note)}
        return {}

    async def _read(self) -> list[Cosigned]:
        async with snapshot(self.pool) as connection:
            return await CosignatureRepository(connection).read()

    async def _note(self, cosigned: Cosigned) -> bytes:
        note = await self.log.checkpoint_at(cosigned.size)
        return note + "".join(f"{line}\n" for line in cosigned.lines).encode()

    async def _is_met(self, size: int, note: bytes) -> bool:
        """Return whether a checkpoint meets the policy that is in force at the end of its tree."""
        policy = (await self._registry_at(size)).policy
        try:
            if policy is not None:
                policy.verify(note)
        except QuorumMissingError:
            return False
        return True

    async def _before_policies(self) -> bytes:
        """Return the largest checkpoint of a tree that demands no witness."""
        size = 0
        async with snapshot(self.pool) as connection:
            repository = RegistryRepository(connection)
            row = await repository.read(await repository.read_version())
            while parse_registry(row.document).policy is not None:
                size = row.log_index
                if size == 0:
                    raise UnavailableError("no quorum of witnesses has cosigned the log yet")
                row = await repository.read(row.version - 1)
        return await self.log.checkpoint_at(size)

    async def _registry_at(self, size: int) -> Registry:
        """Return the registry in force after ``size`` leaves."""
        async with snapshot(self.pool) as connection:
            repository = RegistryRepository(connection)
            version = await repository.read_version()
            row = await repository.read(version)
            while row.log_index >= size:
                version -= 1
                if version == 0:
                    raise NotFoundError("there is no registry so early in the log")
                row = await repository.read(version)
        return parse_registry(row.document)


@dataclass(frozen=True, slots=True)
class _Line:
    """A cosignature that was verified.

    Attributes:
        cosigner: Tells its key from others.
        text: Of the line.
        at: When it was made.
    """

    cosigner: str
    text: str
    at: datetime


def _cosigner(verifier: WitnessVerifier) -> str:
    return f"{verifier.name} {verifier.key_id.hex()}"


def _lines_of(signed: SignedText, witnesses: Sequence[NamedWitness], note: bytes) -> list[_Line]:
    """Return the lines by these witnesses, verified."""
    known = {(w.verifier.name, w.verifier.key_id): w.verifier for w in witnesses}
    found = []
    for line in signed.signatures:
        verifier = known.get((line.name, line.key_id))
        if verifier is not None:
            at = verify_cosignature(note, verifier)
            found.append(_Line(_cosigner(verifier), str(line), at))
    return found
