"""What an organization is given to join: an invitation, and the trust that it pins.

Source: docs/protocol.md, "Joining".
"""

import base64
import binascii
from typing import Annotated, Final, Literal, Self

import msgspec

from hashshare.crypto import canonical
from hashshare.crypto.certificates import Issued
from hashshare.crypto.keys import PublicKey
from hashshare.crypto.note import NoteVerifier
from hashshare.domain.documents import (
    Digest,
    Document,
    Id,
    Ordinal,
    Origin,
    Text,
    decode_document,
    encode_document,
)
from hashshare.domain.registry import Keys, Registry
from hashshare.errors import (
    ConflictError,
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
)

MAX_TRUST_BYTES: Final = 64 * 1024

_PREFIX: Final = "hsinv1_"
_Pem = Annotated[str, msgspec.Meta(max_length=16_384)]
_Url = Annotated[str, msgspec.Meta(pattern=r"\Ahttps://[A-Za-z0-9.:\[\]-]{1,255}\Z")]
_VKey = Annotated[str, msgspec.Meta(max_length=300)]
_Token = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]


class Recovery(Document, frozen=True):
    """Puts governance into other hands, when its keys are lost or stolen.

    Attributes:
        governance: Keys that sign the registry ``version``, whatever the one before it says.
    """

    governance: Keys
    version: Ordinal


class Trust(Document, frozen=True, kw_only=True):
    """What a member believes from the start; all else follows from signatures.

    Attributes:
        ca: Certificates of the coalition's CA, PEM; the one that issues first, and any before
            it whose certificates are still valid.
        coalition: Its name, for people.
        former_log_keys: With which receipts of earlier are verified, and no new checkpoint.
        governance: Keys that sign the first registry.
        log: Origin of the log.
        log_key: With which its checkpoints are verified, a C2SP vkey.
        publishers: Keys that sign publications, until a registry says otherwise.
        recoveries: By version, ascending.
        root: TUF metadata, the first root, from which later trust documents follow; unset where
            a coalition has no trust root.
    """

    ca: _Pem
    coalition: Text
    former_log_keys: tuple[_VKey, ...] = ()
    governance: Keys
    log: Origin
    log_key: _VKey
    publishers: Keys
    recoveries: tuple[Recovery, ...] = ()
    root: Annotated[str, msgspec.Meta(max_length=32_768)] | msgspec.UnsetType = msgspec.UNSET

    @property
    def log_verifier(self) -> NoteVerifier:
        """The log's key."""
        return NoteVerifier.parse(self.log_key)

    @property
    def log_verifiers(self) -> list[NoteVerifier]:
        """The log's keys, present and former: for what is kept, not for news."""
        return [NoteVerifier.parse(text) for text in (self.log_key, *self.former_log_keys)]

    @property
    def authorities(self) -> list[Issued]:
        """Certificates of the CA: the one that certifies members, then those before it."""
        return Issued.parse_all(self.ca.encode())

    def with_authority(self, authority: Issued) -> "Trust":
        """Return a document by which another CA certifies members, beside those before it."""
        # msgspec.structs.replace is untyped.
        changed: Trust = msgspec.structs.replace(self, ca=authority.pem + self.ca)
        return changed

    def without_authority(self, fingerprint: str) -> "Trust":
        """Return a document without the CA whose certificate's fingerprint begins so.

        Raises:
            NotFoundError: There is none, or more than one.
            ConflictError: It is the only one.
        """
        found = self.authorities
        kept = [one.pem for one in found if not one.fingerprint.startswith(fingerprint)]
        if len(kept) + 1 != len(found):
            raise NotFoundError(f"not one CA of the trust document begins with {fingerprint!r:.70}")
        if not kept:
            raise ConflictError("the coalition has no other CA yet: hashshare rotate ca")
        changed: Trust = msgspec.structs.replace(self, ca="".join(kept))
        return changed

    def with_log_key(self, key: NoteVerifier) -> "Trust":
        """Return a document by which another key signs checkpoints; no news by those before it."""
        if str(key) == self.log_key:
            return self
        former = [text for text in (self.log_key, *self.former_log_keys) if text != str(key)]
        changed: Trust = msgspec.structs.replace(
            self, log_key=str(key), former_log_keys=tuple(former)
        )
        return changed

    def with_recovery(self, recovery: Recovery) -> "Trust":
        """Return a document by which other keys govern from a version of the registry on."""
        kept = [one for one in self.recoveries if one.version < recovery.version]
        changed: Trust = msgspec.structs.replace(self, recoveries=(*kept, recovery))
        return changed

    def governing(self, version: int) -> Registry | None:
        """Return whose governance signs a version of the registry; None if that before it does."""
        found = {1: self.governance} | {r.version: r.governance for r in self.recoveries}
        if version not in found:
            return None
        return Registry(
            coalition=self.coalition,
            log=self.log,
            version=version,
            governance=found[version],
            publishers=self.publishers,
        )


def parse_trust(data: bytes) -> Trust:
    """Return the trust document whose one byte form is ``data``.

    Raises:
        MalformedError: It is not that.
        KeyUnsafeError: One of its keys is unsafe.
        MixAndMatchError: The log's key is another log's.
    """
    trust = decode_document(data, Trust, max_bytes=MAX_TRUST_BYTES)
    groups = [trust.governance, trust.publishers, *(r.governance for r in trust.recoveries)]
    for group in groups:
        _verify_group(group)
    if any(verifier.name != trust.log for verifier in trust.log_verifiers):
        raise MixAndMatchError("the log's key is named for another log")
    versions = [recovery.version for recovery in trust.recoveries]
    if versions != sorted(set(versions)) or 1 in versions:
        raise MalformedError("recoveries are written by version, ascending, above 1")
    return trust


def _verify_group(group: Keys) -> None:
    for text in group.keys:
        PublicKey.parse(text)
    if len(set(group.keys)) != len(group.keys):
        raise KeyUnsafeError("a public key is listed twice in the trust document")
    if group.threshold > len(group.keys):
        raise MalformedError(f"{group.threshold} of {len(group.keys)} keys cannot sign")


class Invitation(Document, frozen=True, kw_only=True):
    """Lets one organization enrol once. Whoever holds it can: it travels like a password.

    Attributes:
        ca_fingerprint: SHA-256 of the CA certificate's DER, hex.
        pull_only: Whether who enrols needs no submission key, since it submits nothing.
        token: Known to nobody else; the server keeps its digest only.
        trust_digest: SHA-256 of the trust document, hex.
    """

    api_url: _Url
    ca_fingerprint: Digest
    coalition: Text
    enrol_url: _Url
    member: Id
    pull_only: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    token: _Token
    trust_digest: Digest

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the one line that ``str()`` gives; white space around it is ignored.

        Raises:
            MalformedError: ``text`` is not that.
        """
        stripped = text.strip()
        if not stripped.startswith(_PREFIX):
            raise MalformedError(f"an invitation begins with {_PREFIX}")
        try:
            body = stripped.removeprefix(_PREFIX)
            data = base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedError("the invitation is damaged, ask for it again") from error
        invitation = decode_document(data, cls)
        # b64decode() also takes + and /, more padding, and any unused bits.
        if str(invitation) != stripped:
            raise MalformedError("the invitation is damaged, ask for it again")
        return invitation

    def __str__(self) -> str:
        encoded = base64.urlsafe_b64encode(encode_document(self)).decode("ascii")
        return _PREFIX + encoded.rstrip("=")

    @property
    def token_digest(self) -> str:
        """What the server knows of the token, hex."""
        return canonical.digest(self.token.encode("ascii"))
