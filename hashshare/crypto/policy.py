"""Trust policies: which log, which witnesses, and how many of them must have seen a checkpoint.

Source: C2SP tlog-policy (draft).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hashshare.crypto.cosignature import WitnessVerifier, verify_cosignature
from hashshare.crypto.note import NoteVerifier, parse_note
from hashshare.errors import (
    FreezeError,
    KeyUnsafeError,
    MalformedError,
    QuorumMissingError,
)

MAX_POLICY_BYTES: Final = 32 * 1024
MAX_AHEAD: Final = timedelta(minutes=5)
"""How far a witness's clock may be ahead of the reader's."""

GROUP: Final = "witnesses"
AUDITORS: Final = "auditors"
"""A group that no quorum counts: what its members' cosignatures say is more, and comes later."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,126}")
_URL: Final = re.compile(r"https://\S{1,255}")
_THRESHOLD: Final = re.compile(r"all|any|[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class NamedWitness:
    """A witness under its name in the policy.

    Attributes:
        url: Where it can be asked, "" if it asks itself.
    """

    name: str
    verifier: WitnessVerifier
    url: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, ("witness", self.name, str(self.verifier), self.url)))


@dataclass(frozen=True, slots=True)
class Group:
    """So many of some witnesses or groups.

    Attributes:
        threshold: ``all``, ``any``, or a number.
        names: Of witnesses and of groups before it.
    """

    name: str
    threshold: str
    names: tuple[str, ...]

    @property
    def needed(self) -> int:
        """How many of ``names`` it takes."""
        return {"all": len(self.names), "any": 1}.get(self.threshold) or int(self.threshold)

    def __str__(self) -> str:
        return " ".join(("group", self.name, self.threshold, *self.names))


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose signatures a checkpoint needs.

    Attributes:
        groups: Each names what comes before it.
        quorum: Name of the witness or group that must be satisfied, "" for none.
    """

    logs: tuple[NoteVerifier, ...]
    witnesses: tuple[NamedWitness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = ""

    def __str__(self) -> str:
        lines = [f"log {log}" for log in self.logs]
        lines += [*map(str, self.witnesses), *map(str, self.groups)]
        return "\n".join([*lines, f"quorum {self.quorum or 'none'}", ""])

    @property
    def auditors(self) -> tuple[NamedWitness, ...]:
        """Who cosigns what it has audited: the group ``auditors``, if the quorum leaves it out."""
        counted = self._counted(self.quorum)
        names = [n for g in self.groups if g.name == AUDITORS for n in g.names]
        return tuple(w for w in self.witnesses if w.name in names and w.name not in counted)

    @property
    def voters(self) -> tuple[NamedWitness, ...]:
        """All that are no auditors."""
        auditors = self.auditors
        return tuple(witness for witness in self.witnesses if witness not in auditors)

    @property
    def threshold(self) -> int | None:
        """How many of the usual group must cosign, None if there is no such group."""
        return next((group.needed for group in self.groups if group.name == GROUP), None)

    def _counted(self, name: str) -> set[str]:
        names = next((group.names for group in self.groups if group.name == name), ())
        return {name}.union(*map(self._counted, names))

    def cosigned_at(self, note: bytes) -> dict[str, datetime]:
        """Return when each witness cosigned the checkpoint, by its name in the policy.

        Lines of others are ignored; what one of the witnesses is said to have signed and has
        not refuses the whole.

        Raises:
            MalformedError: It is no checkpoint.
            SignatureInvalidError: A cosignature is false.
        """
        present = {(line.name, line.key_id) for line in parse_note(note).signatures}
        return {
            witness.name: verify_cosignature(note, witness.verifier)
            for witness in self.witnesses
            if (witness.verifier.name, witness.verifier.key_id) in present
        }

    def verify(self, note: bytes) -> datetime | None:
        """Return when a quorum had seen the checkpoint in ``note``; None if none is demanded.

        That is the latest moment since which witnesses that are enough have cosigned, so that
        one fresh cosignature does not hide that all others are old.

        Raises:
            QuorumMissingError: Too few have.
            MalformedError: It is no checkpoint.
            SignatureInvalidError: A cosignature is false.
        """
        if not self.quorum:
            return None
        times = self.cosigned_at(note)
        found = self._time_of(self.quorum, times)
        if found is None:
            raise QuorumMissingError(
                f"{len(times)} of {len(self.voters)} witnesses have cosigned the checkpoint,"
                " which is too few"
            )
        return found

    def _time_of(self, name: str, times: Mapping[str, datetime]) -> datetime | None:
        group = next((g for g in self.groups if g.name == name), None)
        if group is None:
            return times.get(name)
        found = (self._time_of(member, times) for member in group.names)
        newest = sorted((time for time in found if time is not None), reverse=True)
        return newest[group.needed - 1] if len(newest) >= group.needed else None


def default_threshold(number: int) -> int:
    """Return of how many witnesses out of ``number`` a quorum is made: 1 + floor(2n/3).

    Fewer, and two quorums might have none in common but those who sign anything.
    """
    return 1 + 2 * number // 3


def policy_of(
    log: NoteVerifier,
    witnesses: Sequence[NamedWitness],
    threshold: int | None = None,
    auditors: Sequence[NamedWitness] = (),
) -> Policy:
    """Return the usual policy: so many of all witnesses; without witnesses, none."""
    groups: list[Group] = []
    if witnesses:
        needed = default_threshold(len(witnesses)) if threshold is None else threshold
        groups.append(Group(GROUP, str(needed), tuple(w.name for w in witnesses)))
    if auditors:
        groups.append(Group(AUDITORS, "any", tuple(a.name for a in auditors)))
    quorum = GROUP if witnesses else ""
    return parse_policy(str(Policy((log,), (*witnesses, *auditors), tuple(groups), quorum)))


def parse_policy(text: str) -> Policy:
    """Return the policy that ``text`` spells. Blank lines and lines with ``#`` first are left out.

    Raises:
        MalformedError: It spells none, or contradicts itself.
        KeyUnsafeError: A key is unsafe, or named twice.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise MalformedError("a trust policy is not that long")
    parser = _Parser()
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            parser.read(line.split())
    return parser.finish()


def verify_freshness(
    seen_at: datetime, now: datetime, *, warn_after: timedelta, stop_after: timedelta
) -> bool:
    """Return whether what a quorum saw at ``seen_at`` is old enough for a warning.

    Raises:
        FreezeError: It is older than ``stop_after``, or of a time that has not come.
    """
    age = now - seen_at
    if age < -MAX_AHEAD:
        raise FreezeError("the witnesses' cosignatures are of a time that has not come")
    if age > stop_after:
        whole = timedelta(seconds=int(age.total_seconds()))
        raise FreezeError(f"no quorum of witnesses has confirmed this for {whole}")
    return age > warn_after


class _Parser:
    def __init__(self) -> None:
        self._logs: list[NoteVerifier] = []
        self._witnesses: list[NamedWitness] = []
        self._groups: list[Group] = []
        self._quorum: str | None = None
        self._free: set[str] = set()
        self._keys: set[bytes] = set()

    def read(self, words: list[str]) -> None:
        match words:
            case ["log", key, *url] if len(url) <= 1:
                self._read_log(key, url)
            case ["witness", name, key, *url] if len(url) <= 1:
                self._read_witness(name, key, url)
            case ["group", name, threshold, *names] if names:
                self._read_group(name, threshold, names)
            case ["quorum", name] if self._quorum is None:
                self._read_quorum(name)
            case _:
                raise MalformedError(f"not a line of a trust policy: {' '.join(words)!r:.60}")

    def finish(self) -> Policy:
        if self._quorum is None or not self._logs:
            raise MalformedError("a trust policy names a log and a quorum")
        return Policy(tuple(self._logs), tuple(self._witnesses), tuple(self._groups), self._quorum)

    def _read_log(self, key: str, url: Iterable[str]) -> None:
        verifier = NoteVerifier.parse(key)
        self._verify_new(verifier.public.raw, url)
        self._logs.append(verifier)

    def _read_witness(self, name: str, key: str, url: list[str]) -> None:
        verifier = WitnessVerifier.parse(key)
        self._verify_new(verifier.public.raw, url)
        self._define(name)
        self._witnesses.append(NamedWitness(name, verifier, "".join(url)))

    def _read_group(self, name: str, threshold: str, names: list[str]) -> None:
        if not _THRESHOLD.fullmatch(threshold):
            raise MalformedError("a group's threshold is all, any, or a number")
        for member in names:
            # Each counts once: in one group, and there once.
            if member not in self._free:
                raise MalformedError(f"{member!r:.60} is not defined, or is in a group already")
            self._free.remove(member)
        group = Group(name, threshold, tuple(names))
        if group.needed > len(names):
            raise MalformedError(f"{group.needed} of {len(names)} cannot cosign")
        self._define(name)
        self._groups.append(group)

    def _read_quorum(self, name: str) -> None:
        defined = {w.name for w in self._witnesses} | {g.name for g in self._groups}
        if name != "none" and name not in defined:
            raise MalformedError(f"the quorum {name!r:.60} is not defined before it")
        self._quorum = "" if name == "none" else name

    def _define(self, name: str) -> None:
        defined = {w.name for w in self._witnesses} | {g.name for g in self._groups}
        if not _NAME.fullmatch(name) or name == "none" or name in defined:
            raise MalformedError(f"not a new name in a trust policy: {name!r:.60}")
        self._free.add(name)

    def _verify_new(self, key: bytes, url: Iterable[str]) -> None:
        if key in self._keys:
            raise KeyUnsafeError("a public key is named twice in the trust policy")
        self._keys.add(key)
        if not all(_URL.fullmatch(text) for text in url):
            raise MalformedError("a URL in a trust policy begins with https://")
