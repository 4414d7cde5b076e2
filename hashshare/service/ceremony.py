"""The folder ``trust`` of a coalition: the metadata in force, and drafts that are being signed.

    metadata/1.root.json …, 1.targets.json …, 1.snapshot.json …, timestamp.json
    targets/SHA256.trust.json
    drafts/root.json, targets.json, trust.json

Source: docs/operations.md, "The trust root"; TUF 1.0.34, sections 4 to 6.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from hashshare.crypto import canonical
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.crypto.trust_metadata import (
    Signers,
    encode,
    make_newest,
    make_root,
    make_targets,
    missing,
    parse,
    sign,
    signers_of,
    verify_keys,
)
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Trust, parse_trust
from hashshare.errors import (
    AlreadyExistsError,
    ConflictError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
)

_FIRST_DAY: Final = datetime(1970, 1, 1, tzinfo=UTC)
_METADATA: Final = re.compile(r"[1-9][0-9]{0,8}\.(root|snapshot|targets)\.json|timestamp\.json")
_TARGET: Final = re.compile(r"[0-9a-f]{64}\.trust\.json")


@dataclass(frozen=True, slots=True)
class Draft:
    """Metadata that is not in force yet.

    Attributes:
        role: ``root`` or ``targets``.
        missing: How many signatures it still needs.
        may_sign: Keys that could sign, and have not.
    """

    role: str
    version: int
    missing: int
    may_sign: list[PublicKey]


@dataclass(frozen=True, slots=True)
class Ceremony:
    """The folder; one at a time changes it.

    Attributes:
        folder: ``trust`` in the coalition's folder.
    """

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether there is a trust root."""
        return (self.folder / "metadata" / "1.root.json").exists()

    def begin(
        self, root_key: PrivateKey, targets_key: PrivateKey, online: PublicKey, *, now: datetime
    ) -> str:
        """Make the first root, signed by one key; return its text, for trust documents to name.

        Raises:
            AlreadyExistsError: There is one.
        """
        if self.exists:
            raise AlreadyExistsError("there is a trust root already; see: hashshare trust show")
        signers = Signers((root_key.public,)), Signers((targets_key.public,))
        root = make_root(*signers, online, version=1, now=now)
        sign(root, root_key)
        for name in ("metadata", "targets", "drafts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self.folder / "metadata" / "1.root.json", encode(root))
        return encode(root).decode()

    def root(self) -> Metadata[Root]:
        """Return the newest root in force.

        Raises:
            NotFoundError: There is none.
        """
        return parse(self._newest("root")[1], Root)

    def trust(self) -> Trust | None:
        """Return the trust document in force, None if none was put into force here."""
        try:
            targets = parse(self._newest("targets")[1], Targets)
        except NotFoundError:
            return None
        (target,) = targets.signed.targets.values()
        return parse_trust(
            (self.folder / "targets" / f"{target.hashes['sha256']}.trust.json").read_bytes()
        )

    def read_metadata(self, name: str) -> bytes:
        """Return a file of metadata as clients ask for it.

        Raises:
            NotFoundError: There is none.
        """
        return self._read("metadata", name, _METADATA)

    def read_target(self, name: str) -> bytes:
        """Return a trust document by ``SHA256.trust.json``.

        Raises:
            NotFoundError: There is none.
        """
        return self._read("targets", name, _TARGET)

    def propose_root(self, root: Signers, targets: Signers, *, now: datetime) -> Draft:
        """Draft a root with these keys; the former root's keys and its own have to sign it.

        Raises:
            KeyUnsafeError: A key is named twice, or is the online one.
            MalformedError: A threshold cannot be met.
        """
        before = self.root().signed
        (online,) = signers_of(before, "timestamp").keys
        made = make_root(root, targets, online, version=before.version + 1, now=now)
        _write(self._draft("root"), encode(made))
        return self.drafts()[0]

    def propose_trust(self, trust: Trust, *, now: datetime) -> Draft:
        """Draft a trust document; the keys of the role targets have to sign it.

        Raises:
            MixAndMatchError: It is of another log or coalition than the one in force.
        """
        document = encode_document(trust)
        _verify_same(self.trust(), parse_trust(document))
        made = make_targets(document, version=self._next_targets(), now=now)
        _write(self._draft("trust"), document)
        _write(self._draft("targets"), encode(made))
        return self.drafts()[-1]

    def drafts(self) -> list[Draft]:
        """Return what is being signed; root before targets."""
        found = []
        if self._draft("root").exists():
            found.append(self._look_at_root(parse(self._draft("root").read_bytes(), Root)))
        if self._draft("targets").exists():
            found.append(self._look_at_targets(parse(self._draft("targets").read_bytes(), Targets)))
        return found

    def publish(self, online: PrivateKey, *, now: datetime) -> list[Draft]:
        """Put every draft into force; all of them or none, and clients never see half of one.

        Raises:
            NotFoundError: There is no draft.
            ConflictError: Too few have signed one.
            MalformedError: The trust document is not the one that was signed.
        """
        drafts = self.drafts()
        if not drafts:
            raise NotFoundError("nothing is drafted; see: hashshare trust rotate, trust propose")
        for draft in drafts:
            if draft.missing:
                raise ConflictError(
                    f"{draft.role} lacks {draft.missing} signatures; see: hashshare trust show"
                )
        for draft in drafts:
            self._put_in_force(draft)
        self.renew(online, now=now, always=True)
        for name in ("root", "targets", "trust"):
            self._draft(name).unlink(missing_ok=True)
        return drafts

    def renew(self, online: PrivateKey, *, now: datetime, always: bool = False) -> bool:
        """Say for today what is the newest, if that was not done; return whether it was.

        The day and the targets make the version and the end: servers that have copies of the
        folder say the same, byte for byte, and members may go from one to the other.
        """
        path = self.folder / "metadata" / "timestamp.json"
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        targets = parse(self._newest("targets")[1], Targets).signed.version
        version = (today - _FIRST_DAY).days + targets
        if path.exists():
            before = parse(path.read_bytes(), Timestamp).signed
            ended = before.is_expired(now)
            if before.version >= version and not (ended or always):
                return False
            # A clock that was ahead must not make it go back.
            version = max(version, before.version + ended)
        snapshot, timestamp = make_newest(targets, version=version, now=today)
        sign(snapshot, online)
        sign(timestamp, online)
        _write(self.folder / "metadata" / f"{version}.snapshot.json", encode(snapshot))
        # Last: it is what clients look at first.
        _write(path, encode(timestamp))
        return True

    def _look_at_root(self, draft: Metadata[Root]) -> Draft:
        """A root is signed by the keys before it, and by its own."""
        verify_keys(draft.signed)
        found = [missing(draft, root) for root in (self.root().signed, draft.signed)]
        return _to_draft("root", draft.signed.version, found)

    def _look_at_targets(self, draft: Metadata[Targets]) -> Draft:
        root = self.root().signed
        if self._draft("root").exists():
            # It comes into force before.
            root = parse(self._draft("root").read_bytes(), Root).signed
        return _to_draft("targets", draft.signed.version, [missing(draft, root)])

    def _put_in_force(self, draft: Draft) -> None:
        data = self._draft(draft.role).read_bytes()
        if draft.role == "targets":
            document = self._draft("trust").read_bytes()
            (target,) = parse(data, Targets).signed.targets.values()
            if target.hashes != {"sha256": canonical.digest(document)}:
                raise MalformedError("drafts/trust.json is not the document that was signed")
            _write(self.folder / "targets" / f"{canonical.digest(document)}.trust.json", document)
        _write(self.folder / "metadata" / f"{draft.version}.{draft.role}.json", data)

    def _draft(self, name: str) -> Path:
        return self.folder / "drafts" / f"{name}.json"

    def _next_targets(self) -> int:
        try:
            return self._newest("targets")[0] + 1
        except NotFoundError:
            return 1

    def _newest(self, role: str) -> tuple[int, bytes]:
        versions = [
            int(path.name.split(".")[0]) for path in self.folder.glob(f"metadata/*.{role}.json")
        ]
        if not versions:
            raise NotFoundError("this coalition has no trust root; make one: hashshare trust init")
        version = max(versions)
        return version, (self.folder / "metadata" / f"{version}.{role}.json").read_bytes()

    def _read(self, kind: str, name: str, pattern: "re.Pattern[str]") -> bytes:
        try:
            if pattern.fullmatch(name):
                return (self.folder / kind / name).read_bytes()
        except FileNotFoundError:
            pass
        raise NotFoundError("there is no such metadata of the trust root")


def sign_file(path: Path, key: PrivateKey) -> str:
    """Add a key's signature to a draft's file, wherever it lies; return its role.

    Raises:
        MalformedError: It is no draft.
        OSError: It cannot be read or written.
    """
    data = path.read_bytes()
    with suppress(MalformedError):
        root = parse(data, Root)
        sign(root, key)
        _write(path, encode(root))
        return "root"
    targets = parse(data, Targets)
    sign(targets, key)
    _write(path, encode(targets))
    return "targets"


def _to_draft(role: str, version: int, found: list[tuple[int, list[PublicKey]]]) -> Draft:
    needed = max(count for count, _ in found)
    keys = {key.raw: key for _, wanted in found for key in wanted}
    return Draft(role, version, needed, list(keys.values()) if needed else [])


def _verify_same(before: Trust | None, after: Trust) -> None:
    if before is not None and (before.log, before.coalition, before.root) != (
        after.log,
        after.coalition,
        after.root,
    ):
        raise MixAndMatchError("a trust document keeps its log, its coalition and its first root")


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
