"""A witness: it reads the whole log, remembers it, and cosigns what only grew.

It asks the server itself, so that it may be behind any firewall. For one that is asked, see
``listener``; both keep what they have cosigned in one place, and may run side by side.

Source: C2SP tlog-witness, tlog-cosignature; docs/protocol.md, "Witnesses".
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from hashshare.client.following import Follower, Offer, checkpoint_of
from hashshare.client.logbook import Logbook
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.client.trusting import TRUST_AGE, TrustKeeper
from hashshare.crypto.cosignature import Witness, WitnessVerifier
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.crypto.note import Checkpoint, SignedText, parse_checkpoint, parse_note
from hashshare.domain.trust import verify_growth
from hashshare.errors import EquivocationError, NotFoundError
from hashshare.wire.lists import CosignedDocument

REFRESH: Final = timedelta(minutes=10)
"""A log that rests is cosigned again after so long: members then see that nothing is withheld."""


def _now() -> datetime:
    return datetime.now(UTC)


def make_key(profile: Profile) -> WitnessVerifier:
    """Return what others verify this member's cosignatures with; make the key if there is none."""
    with suppress(FileExistsError):
        write_private_key(profile.witness_key_path, PrivateKey.generate())
    return witness_of(profile).verifier


def witness_of(profile: Profile) -> Witness:
    """Return the witness that this member is.

    Raises:
        NotFoundError: It has no key for that.
    """
    try:
        return Witness(profile.member, read_private_key(profile.witness_key_path))
    except FileNotFoundError as error:
        raise NotFoundError("there is no witness key; make one: hashshare witness key") from error


def open_logbook(profile: Profile) -> Logbook:
    """Open what the witness remembers; apart from what the member itself has accepted."""
    logbook = Logbook.open(Path(profile.folder / "witness.sqlite"))
    logbook.begin_cosigning()
    return logbook


@dataclass(slots=True)
class WitnessLoop:
    """Cosigns, step by step.

    Attributes:
        logbook: The witness's own.
    """

    profile: Profile
    session: Session
    logbook: Logbook
    clock: Callable[[], datetime] = _now
    _keeper: TrustKeeper = field(init=False)
    _last: tuple[Checkpoint, datetime] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._keeper = TrustKeeper(self.profile, self.session)

    async def step(self) -> Checkpoint | None:
        """Cosign what the server shows, if there is something new, or it was long ago.

        What was seen is durable before it is cosigned: a witness that was killed never signs
        a second history.

        Returns:
            What was cosigned.

        Raises:
            EquivocationError: The log is not the one that was seen before; nothing is cosigned.
            VerificationError: A statement may not stand in it; nothing is cosigned.
            PermissionDeniedError: The trust policy does not name this witness.
            UnavailableError: The server cannot be reached.
        """
        witness = witness_of(self.profile)
        before = self.logbook.cosigned()
        await self._keeper.keep(max_age=TRUST_AGE)
        follower = Follower(
            self._keeper.profile,
            self.session,
            self.logbook,
            offer=Offer.PENDING,
            renew_trust=self._keeper.renew,
        )
        position = await follower.follow()
        note = parse_note(position.note)
        checkpoint, now = parse_checkpoint(note.text), self.clock()
        if self._last is not None and self._last[0] == checkpoint and now < self._last[1] + REFRESH:
            return None
        by_log = note.by(self._keeper.profile.trust.log_verifier)
        signed = SignedText(note.text, (by_log, witness.cosign(note.text, now=now)))
        if not await self._keep(follower, before, checkpoint, signed.encode()):
            return None
        await self.session.send("POST", "/v1/log/cosignatures", signed.encode(), CosignedDocument)
        self._last = (checkpoint, now)
        return checkpoint

    async def _keep(
        self, follower: Follower, before: bytes, checkpoint: Checkpoint, note: bytes
    ) -> bool:
        """Write down what is to be cosigned; return False if that is not the newest any more."""
        known = checkpoint_of(before)
        if known.size > checkpoint.size:
            # The listener was asked meanwhile, and the server offers this one a little longer.
            return False
        try:
            proof = await follower.prove(known, checkpoint) if known.size else None
            verify_growth(known, checkpoint, proof=proof)
        except EquivocationError as error:
            follower.keep_fork(error, (before, note))
            raise
        return self.logbook.cosign(before, note)
