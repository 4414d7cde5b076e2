"""Proposals: statements of governance that wait for signatures of further admins, as files.

Where governance has a threshold above one, an admin's act is written to a file with the first
signature; the next admin looks at what it does, signs, and whoever completes it sends it. The
console writes such files too, with no signature yet. No server keeps a proposal: who may change
the coalition is decided by signatures alone.

Source: docs/operations.md, "Acts that need several admins".
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from hashshare.client.profile import Profile
from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope, pae, parse_envelope, unseal, with_signature
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.domain.differences import Difference, differences
from hashshare.domain.documents import decode_document
from hashshare.domain.registry import Keys, Registry, parse_registry
from hashshare.domain.statements import REDACTION_TYPE, REGISTRY_TYPE, Redaction, RegistryStatement
from hashshare.domain.succession import verify_succession
from hashshare.errors import (
    AlreadyExistsError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    RegistryConflictError,
    SignaturesMissingError,
)
from hashshare.wire.members import RegistryRequest


@dataclass(frozen=True, slots=True)
class Proposal:
    """A statement that fewer have signed than must.

    Attributes:
        governance: Whose signatures it needs.
        envelope: The statement, with the signatures so far, each of them verified.
        reason: Why, as the log will say.
        act: In a word or two.
        name: Of its file.
    """

    governance: Keys
    envelope: Envelope
    reason: str
    act: str
    name: str

    @property
    def signers(self) -> list[str]:
        """Those who govern and have signed: their keys."""
        ids = {signature.key_id for signature in self.envelope.signatures}
        return [text for text in self.governance.keys if PublicKey.parse(text).key_id in ids]

    @property
    def missing(self) -> int:
        """How many signatures it still needs."""
        return max(0, self.governance.threshold - len(self.signers))

    def sign(self, key: PrivateKey) -> Self:
        """Return it with one signature more.

        Raises:
            NotFoundError: The key does not govern.
        """
        if key.public.text not in self.governance.keys:
            raise NotFoundError("this profile's governance key is not among those that govern")
        value = key.sign(pae(self.envelope.payload_type, self.envelope.payload))
        return replace(self, envelope=with_signature(self.envelope, key.public.key_id, value))

    def encode(self) -> bytes:
        """Return the file's content: what a server takes, once it is complete."""
        return self.envelope.encode()

    def changes(self) -> Iterator[Difference]:
        """Yield what it changes in the registry."""
        yield from ()


@dataclass(frozen=True, slots=True)
class RegistryProposal(Proposal):
    """The next version of the registry.

    Attributes:
        current: The version in force.
        proposed: The one that is to follow.
        document: That, as bytes.
    """

    current: Registry
    proposed: Registry
    document: bytes

    def request(self) -> RegistryRequest:
        """Return what is sent to the server."""
        return RegistryRequest(document=self.document, envelope=self.envelope.encode())

    def encode(self) -> bytes:
        """Return the file's content."""
        return self.request().encode()

    def changes(self) -> Iterator[Difference]:
        """Yield what it changes, but for the number of the version."""
        yield from differences(self.current, self.proposed)


def parse_proposal(data: bytes, current: Registry, governance: Keys) -> Proposal:
    """Read what ``encode`` wrote.

    Args:
        data: From a file.
        current: The registry in force, verified.
        governance: Whose signatures the next version needs.

    Raises:
        MalformedError: It is not that, or contradicts itself.
        RegistryConflictError: The registry has moved on since it was made.
        SignatureInvalidError: Only others than those who govern signed it, or one did not that
            it says.
        DigestMismatchError: The document is not the one that was signed.
    """
    try:
        request = RegistryRequest.parse(data)
    except MalformedError:
        return redaction_proposal(data, current.governance)
    return registry_proposal(request, current, governance)


def registry_proposal(
    request: RegistryRequest, current: Registry, governance: Keys
) -> RegistryProposal:
    """Return what a request proposes; raises as ``parse_proposal`` does."""
    envelope = parse_envelope(request.envelope)
    # What nobody has signed yet, the console wrote: whoever signs looks at what it does.
    if envelope.signatures:
        unseal(envelope, _keys_of(governance), payload_type=REGISTRY_TYPE)
    elif envelope.payload_type != REGISTRY_TYPE:
        raise MalformedError("this proposes no version of the registry")
    statement = decode_document(envelope.payload, RegistryStatement)
    if canonical.digest(request.document) != statement.document.sha256:
        raise DigestMismatchError("the registry is not the one that was signed")
    proposed = parse_registry(request.document)
    if proposed.version != current.version + 1:
        raise RegistryConflictError(
            f"this was made for version {proposed.version}, and {current.version} is in force: "
            "do it again"
        )
    verify_succession(current, proposed)
    return RegistryProposal(
        governance=governance,
        envelope=envelope,
        reason=statement.reason,
        act=f"version {proposed.version} of the registry",
        name=f"registry-{proposed.version}.json",
        current=current,
        proposed=proposed,
        document=request.document,
    )


def redaction_proposal(data: bytes, governance: Keys) -> Proposal:
    """Return the redaction in an envelope; raises as ``parse_proposal`` does."""
    envelope = parse_envelope(data)
    payload = unseal(envelope, _keys_of(governance), payload_type=REDACTION_TYPE)
    redaction = decode_document(payload, Redaction)
    return Proposal(
        governance=governance,
        envelope=envelope,
        reason=redaction.reason,
        act=f"deletion of the batch {redaction.batch}",
        name=f"redaction-{redaction.batch[:16]}.json",
    )


def keep_proposal(profile: Profile, proposal: Proposal) -> SignaturesMissingError:
    """Write a proposal to the profile; return the error that says how it goes on.

    Raises:
        AlreadyExistsError: There is another one for the same.
    """
    path, data = profile.sub_folder("proposals") / proposal.name, proposal.encode()
    if path.exists() and path.read_bytes() != data:
        raise AlreadyExistsError(f"one waits in {path} already: have it signed, or delete it")
    write_proposal(path, data)
    return SignaturesMissingError(
        f"{proposal.missing} more of those who govern must sign {path}: send it to them, for "
        f"hashshare governance sign {path.name}"
    )


def write_proposal(path: Path, data: bytes) -> None:
    """Write the file, in place of the one that was there."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


def _keys_of(governance: Keys) -> list[PublicKey]:
    return [PublicKey.parse(text) for text in governance.keys]
