"""What auditors vouch for: making such a cosignature, and reading those of others.

An auditor's cosignature of a checkpoint says more than a witness's, and is made with another key:
*I have replayed this log, and every publication in it is the fold of what members signed.*

Source: docs/protocol.md, "What an auditor's cosignature says"; docs/adr/0012.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hashshare.client.findings import Report
from hashshare.client.following import Follower, checkpoint_of
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto.cosignature import Witness, WitnessVerifier, verify_cosignature
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.crypto.note import Checkpoint, SignedText, parse_note, verify_checkpoint
from hashshare.crypto.policy import NamedWitness
from hashshare.domain.trust import verify_growth
from hashshare.errors import ConflictError, EquivocationError, NotFoundError
from hashshare.wire.lists import AuditList, CosignedDocument

SUFFIX: Final = "/audit"
"""Follows the member's id in the name of its auditor's key."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What an auditor vouches for.

    Attributes:
        auditor: Its name in the trust policy.
        checkpoint: Of the log, which it has replayed so far.
        at: When it said so; aware.
    """

    auditor: str
    checkpoint: Checkpoint
    at: datetime


def make_auditor_key(profile: Profile) -> WitnessVerifier:
    """Return what others verify this member's audits with; make the key if there is none."""
    with suppress(FileExistsError):
        write_private_key(_path(profile), PrivateKey.generate())
    return auditor_of(profile).verifier


def auditor_of(profile: Profile) -> Witness:
    """Return the auditor that this member is.

    Raises:
        NotFoundError: It has no key for that.
    """
    try:
        return Witness(profile.member + SUFFIX, read_private_key(_path(profile)))
    except FileNotFoundError as error:
        raise NotFoundError(
            "there is no auditor's key; make one: hashshare witness key --auditor"
        ) from error


async def cosign_report(
    auditor: Witness, session: Session, report: Report, *, now: datetime
) -> None:
    """Vouch for what an audit has found, before all members.

    Raises:
        ConflictError: Not every publication was compared, or one differs: nothing is cosigned.
        PermissionDeniedError: The trust policy does not list this auditor.
        UnavailableError: The server cannot be reached.
    """
    if not report.is_complete:
        raise ConflictError("only an audit that could compare every list, and agrees, is cosigned")
    note = parse_note(report.note.encode())
    line = auditor.cosign(note.text, now=now)
    signed = SignedText(note.text, (note.signatures[0], line)).encode()
    await session.send("POST", "/v1/log/cosignatures", signed, CosignedDocument)


async def read_audits(follower: Follower) -> list[Audited]:
    """Return what auditors of the trust policy vouch for, verified, by name.

    Read the log first: the policy is that of the registry in force there.

    Raises:
        SignatureInvalidError: The log, or the auditor, did not sign what is shown.
        MixAndMatchError: It is of another log.
        EquivocationError: An auditor was shown another history; the evidence is kept.
        MalformedError: An answer is not in its form.
        UnavailableError: The server cannot be reached.
    """
    position = follower.logbook.position(follower.profile.trust)
    registry = position.history.registry
    policy = registry.cosigners if registry is not None else None
    known = {auditor.name: auditor for auditor in policy.auditors} if policy else {}
    if not known:
        return []
    listed = await follower.session.get("/v1/log/audits", AuditList)
    # Whom the policy of what was read so far does not list, yet or any more, is left out.
    shown = [(known[x.auditor], x.note.encode()) for x in listed.audits if x.auditor in known]
    found = [await _verify(follower, auditor, note, position.note) for auditor, note in shown]
    return sorted(found, key=lambda audited: audited.auditor)


async def _verify(
    follower: Follower, auditor: NamedWitness, note: bytes, own_note: bytes
) -> Audited:
    # 1. The log, and the auditor, signed it.
    checkpoint = verify_checkpoint(note, follower.profile.trust.log_verifier)
    at = verify_cosignature(note, auditor.verifier)
    # 2. It is of the history that is known here.
    own = checkpoint_of(own_note)
    old, new = sorted((checkpoint, own), key=lambda c: c.size)
    try:
        proof = await follower.prove(old, new) if 0 < old.size < new.size else None
        verify_growth(old, new, proof=proof)
    except (EquivocationError, NotFoundError) as error:
        forked = EquivocationError(f"auditor {auditor.name} was shown another history: {error}")
        follower.keep_fork(forked, (own_note, note))
        raise forked from error
    return Audited(auditor.name, checkpoint, at.astimezone(UTC))


def _path(profile: Profile) -> Path:
    return profile.folder / "keys" / "auditor.pem"
