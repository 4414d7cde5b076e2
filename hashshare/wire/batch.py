"""Batches: NDJSON, each line in canonical form, read into columns at a million lines a second.

Lines are decoded some thousands at a time and encoded again: where that gives the same bytes,
every line was in the one accepted form, and none has to be looked at alone. Only a chunk that
fails is read line by line, to tell what is wrong with it.

Source: docs/protocol.md, "Batches".
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec

from hashshare.domain.columns import BatchColumns
from hashshare.domain.hashes import HashAlgorithm, parse_algorithm, parse_value
from hashshare.domain.names import RECORD_PATTERN
from hashshare.domain.policy import WORDS_PATTERN, Basis, Decision, DisputeReason, Media
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.statements import BatchManifest, Operation
from hashshare.errors import BatchFaultsError, DigestMismatchError, Fault, MalformedError
from hashshare.wire.collect import Collector, Faults, Rows
from hashshare.wire.compression import inflate

FORMAT: Final = "hashshare-batch/1"
SALT_BYTES: Final = 32
MAX_LINE_BYTES: Final = 16 * 1024

_SAID: Final[dict[Operation, Callable[[Any], tuple[str | None, ...]]]] = {
    Operation.ASSERT: attrgetter("classification", "media", "basis"),
    Operation.DISPUTE: lambda line: (line.reason,),
    Operation.RULE: attrgetter("decision", "reason"),
}
_WITH_ID: Final = frozenset({Operation.ASSERT, Operation.WITHDRAW})
_LINES_A_CHUNK: Final = 4096
_RECORD: Final = re.compile(RECORD_PATTERN)
# What a message quotes is the member's text, and may be a hash in the wrong place.
_LONG_QUOTE: Final = re.compile(r"(`|')[^`'$]{25,}\1")
_PATH: Final = re.compile(r" - at `\$\.?([a-z0-9.]*)`\Z")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. The salt keeps the logged digest from confirming a guessed batch."""

    format: str
    salt: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What the records of one submission must keep to.

    Attributes:
        operation: All records are of it.
        algorithms: Those of the hash set.
        classifications: The vocabulary of the hash set.
        count: How many records the statement announces, which the server has already found
            to be within its limit.
    """

    operation: Operation
    algorithms: frozenset[HashAlgorithm]
    classifications: frozenset[str]
    count: int


def encode_batch(records: Iterable[Record], salt: bytes) -> Iterator[bytes]:
    """Yield the NDJSON of a batch, some thousand lines at a time.

    Args:
        records: All of one operation.
        salt: 32 random bytes, never used for another batch.
    """
    if len(salt) != SALT_BYTES:
        raise RuntimeError(f"a salt has {SALT_BYTES} bytes")
    yield msgspec.json.encode(Header(FORMAT, salt.hex())) + b"\n"
    form = _form(frozenset(HashAlgorithm))
    encoder = msgspec.json.Encoder()
    rest = iter(records)
    while chunk := list(islice(rest, _LINES_A_CHUNK)):
        yield encoder.encode_lines([form.line_of(record) for record in chunk])


def parse_batch(chunks: Iterable[bytes], rules: BatchRules) -> BatchColumns:
    """Return the records of a batch. Takes time: call it in a worker thread.

    Args:
        chunks: The NDJSON, cut anywhere. The caller compares its digest and size.
        rules: What each record must keep to.

    Raises:
        BatchFaultsError: It is not a batch that keeps to the rules; holds the first faults.
    """
    parser = _Parser(rules)
    for chunk in chunks:
        parser.feed(chunk)
    return parser.finish()


def read_batch(
    compressed: Iterable[bytes], manifest: BatchManifest, rules: BatchRules, *, max_bytes: int
) -> BatchColumns:
    """Return the records of a batch that is kept as zstd, and is the one that was announced.

    Args:
        compressed: One zstd frame.
        manifest: What the statement says of it.
        rules: What each record must keep to.
        max_bytes: More than this does not come out of it.

    Raises:
        DigestMismatchError: It has not the digest or size that is announced.
        BatchFaultsError: It is not a batch that keeps to the rules.
        MalformedError: It is not zstd.
        TooLargeError: It is over ``max_bytes``.
    """
    plain = _Measured(inflate(compressed, max_bytes=max_bytes))
    try:
        columns = parse_batch(plain, rules)
    except BatchFaultsError:
        # Other bytes than announced would have other faults.
        plain.verify(manifest)
        raise
    plain.verify(manifest)
    return columns


class _Measured:
    """Passes bytes on, and counts and digests them."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self._size += len(chunk)
            yield chunk

    def verify(self, manifest: BatchManifest) -> None:
        """Read what is left, and refuse bytes that are not the announced ones."""
        for _ in self:
            pass
        if self._size != manifest.size:
            raise DigestMismatchError(
                f"the statement announces {manifest.size} bytes, the batch has {self._size}"
            )
        if self._digest.hexdigest() != manifest.sha256:
            raise DigestMismatchError("the stored batch does not have its digest any more")


@dataclass(frozen=True, slots=True)
class _Form:
    """The structures of lines with hashes of some algorithms.

    Attributes:
        hashes: One optional field for each algorithm, in the order of names.
        lines: By operation.
        encoder: Gives the canonical form, since fields are declared in the order of names and
            texts of the accepted patterns need no escape.
    """

    hashes: type[msgspec.Struct]
    lines: dict[Operation, type[msgspec.Struct]]
    decoders: dict[Operation, "msgspec.json.Decoder[Any]"]
    encoder: msgspec.json.Encoder

    def line_of(self, record: Record) -> msgspec.Struct:
        """Return the line that says what ``record`` does."""
        hashes: dict[str, Any] = {
            "hashes": self.hashes(**{a.value: v.hex() for a, v in record.hashes.items()})
        }
        match record:
            case AssertRecord():
                return self.lines[Operation.ASSERT](
                    basis=record.basis,
                    classification=record.classification,
                    id=record.record or None,
                    media=record.media,
                    **hashes,
                )
            case WithdrawRecord(record=""):
                return self.lines[Operation.WITHDRAW](**hashes)
            case WithdrawRecord():
                return self.lines[Operation.WITHDRAW](id=record.record)
            case DisputeRecord():
                return self.lines[Operation.DISPUTE](reason=record.reason, **hashes)
            case RuleRecord():
                return self.lines[Operation.RULE](
                    decision=record.decision, reason=record.reason, **hashes
                )


@lru_cache(maxsize=64)
def _form(algorithms: frozenset[HashAlgorithm]) -> _Form:
    def struct(name: str, fields: Sequence[tuple[str, Any] | tuple[str, Any, Any]]) -> Any:  # noqa: ANN401
        return msgspec.defstruct(
            name, fields, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False,
            kw_only=True,
        )  # fmt: skip

    digits = {a: msgspec.Meta(min_length=2 * a.size, max_length=2 * a.size) for a in algorithms}
    hashes = struct("Hashes", [(a.value, Annotated[str, digits[a]] | None, None)
                               for a in sorted(algorithms)])  # fmt: skip
    record = Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None
    words = Annotated[str, msgspec.Meta(pattern=rf"\A{WORDS_PATTERN}\Z")]
    lines = {
        Operation.ASSERT: struct(
            "AssertLine",
            [
                ("basis", Basis),
                ("classification", str),
                ("hashes", hashes),
                ("id", record, None),
                ("media", Media | None, None),
            ],
        ),
        Operation.WITHDRAW: struct(
            "WithdrawLine", [("hashes", hashes | None, None), ("id", record, None)]
        ),
        Operation.DISPUTE: struct("DisputeLine", [("hashes", hashes), ("reason", DisputeReason)]),
        Operation.RULE: struct(
            "RuleLine", [("decision", Decision), ("hashes", hashes), ("reason", words)]
        ),
    }
    decoders = {o: msgspec.json.Decoder(line) for o, line in lines.items()}
    return _Form(hashes, lines, decoders, msgspec.json.Encoder())


class _Parser:
    """Takes in the bytes of one batch."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        self._form = _form(rules.algorithms)
        self._decoder = self._form.decoders[rules.operation]
        self._collector = Collector(rules.operation, rules.algorithms)
        self._getters = [(a, attrgetter(a.value)) for a in sorted(rules.algorithms)]
        self._rest = b""
        self._line = 0
        self._nothing = self._form.hashes()
        self._faults = Faults()

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._rest += chunk
            if len(self._rest) > MAX_LINE_BYTES:
                reason = f"a line has at most {MAX_LINE_BYTES} bytes"
                self._faults.add(Fault(self._line + 1, "", reason))
                raise BatchFaultsError(self._faults.first(), total=self._faults.total)
            return
        lines, self._rest = self._rest + chunk[:end], chunk[end:]
        if self._line == 0:
            header, _, lines = lines.partition(b"\n")
            self._read_header(header)
        if lines:
            self._read_lines(lines)

    def finish(self) -> BatchColumns:
        """Return the records, once all bytes are there."""
        if self._line == 0:
            self._faults.add(Fault(1, "", "a batch begins with a header line"))
        if self._rest:
            self._faults.add(Fault(self._line + 1, "", "the last line does not end with LF"))
        records = max(self._line - 1, 0)
        if self._line and records != self._rules.count and not self._rest:
            reason = f"the statement announces {self._rules.count} records, there are {records}"
            self._faults.add(Fault(self._line + 1, "", reason))
        columns = self._collector.finish(self._faults)
        if self._faults.total:
            raise BatchFaultsError(self._faults.first(), total=self._faults.total)
        return columns

    def _read_header(self, line: bytes) -> None:
        self._line = 1
        try:
            header = msgspec.json.decode(line, type=Header)
            canonical = msgspec.json.encode(header) == line
        except (msgspec.DecodeError, UnicodeDecodeError):
            canonical = False
        else:
            canonical = canonical and header.format == FORMAT
        if not canonical:
            expected = f'{{"format":"{FORMAT}","salt":"<64 hex digits>"}}'
            self._faults.add(Fault(1, "", f"the header must be {expected}"))

    def _read_lines(self, lines: bytes) -> None:
        first = self._line + 1
        self._line += lines.count(b"\n")
        try:
            decoded = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = None
        rows = None
        if decoded is not None and self._form.encoder.encode_lines(decoded) == lines:
            rows = self._to_rows(decoded, list(range(first, self._line + 1)))
        if rows is None:
            self._read_singly(lines, first)
        else:
            self._collector.append(rows)

    def _read_singly(self, lines: bytes, number: int) -> None:
        good, numbers = [], []
        for line in lines.split(b"\n")[:-1]:
            fault = self._find_fault(line, number)
            if fault is None:
                good.append(self._decoder.decode(line))
                numbers.append(number)
            else:
                self._faults.add(fault)
            number += 1
        rows = self._to_rows(good, numbers)
        if rows is None:
            raise RuntimeError("each line is acceptable alone, but not all together")
        # Goes on, so that repetitions among the other lines are found too.
        self._collector.append(rows)

    def _to_rows(self, lines: list[Any], numbers: list[int]) -> Rows | None:
        """Return the lines as columns, None if one of them breaks a rule."""
        ids: list[str | None] = []
        if self._rules.operation in _WITH_ID:
            ids = [line.id for line in lines]
        said = _SAID.get(self._rules.operation)
        kinds: list[tuple[str | None, ...]] = list(map(said, lines)) if said else []
        if self._rules.operation is Operation.ASSERT:
            if not {line.classification for line in lines} <= self._rules.classifications:
                return None
        elif self._rules.operation is Operation.WITHDRAW and any(
            (line.id is None) is (line.hashes is None) for line in lines
        ):
            return None
        owners, hashes = numbers, [line.hashes for line in lines]
        if None in hashes:
            owners = [n for n, h in zip(numbers, hashes, strict=True) if h is not None]
            hashes = [h for h in hashes if h is not None]
        rows = Rows(numbers=numbers, ids=ids, kinds=kinds)
        return rows if self._add_hashes(rows, owners, hashes) and rows.ids_are_spelled() else None

    def _add_hashes(self, rows: Rows, owners: list[int], hashes: list[Any]) -> bool:
        named = 0
        for algorithm, getter in self._getters:
            digits = list(map(getter, hashes))
            absent = digits.count(None)
            if absent == len(digits):
                continue
            having = owners
            if absent:
                having = [n for n, d in zip(owners, digits, strict=True) if d is not None]
                digits = [d for d in digits if d is not None]
            if not rows.add(algorithm, digits, having):
                return False
            named += len(digits)
        if named >= len(hashes) and len(self._getters) == 1:
            return True
        # A record with none would hide behind one with two.
        return self._nothing not in hashes

    def _find_fault(self, line: bytes, number: int) -> Fault | None:
        """Return what is wrong with one line, None if nothing is."""
        try:
            plain = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Fault(number, "", "not a JSON object in UTF-8")
        if isinstance(plain, dict) and isinstance(plain.get("hashes"), dict):
            fault = self._find_fault_of_hashes(plain["hashes"], number)
            if fault is not None:
                return fault
        try:
            decoded = self._decoder.decode(line)
        except msgspec.ValidationError as error:
            return _to_fault(error, number)
        if self._form.encoder.encode(decoded) != line:
            return Fault(number, "", "not in canonical form: keys sorted, no space, no escape")
        return self._find_fault_of_fields(decoded, number)

    def _find_fault_of_hashes(self, hashes: dict[str, object], number: int) -> Fault | None:
        if not hashes:
            return Fault(number, "hashes", "at least one hash is needed")
        for name, digits in hashes.items():
            try:
                algorithm = parse_algorithm(name)
            except MalformedError:
                # Not named: what stands in its place may be a hash.
                known = ", ".join(sorted(self._rules.algorithms))
                return Fault(number, "hashes", f"unknown algorithm, the hash set has {known}")
            if algorithm not in self._rules.algorithms:
                reason = f"the hash set has no {name} hashes"
                return Fault(number, f"hashes.{name}", reason)
            if not isinstance(digits, str):
                return Fault(number, f"hashes.{name}", "expected hex digits")
            try:
                parse_value(algorithm, digits)
            except MalformedError as error:
                return Fault(number, f"hashes.{name}", str(error))
        return None

    def _find_fault_of_fields(self, line: Any, number: int) -> Fault | None:  # noqa: ANN401
        operation = self._rules.operation
        if operation is Operation.WITHDRAW and (line.id is None) is (line.hashes is None):
            return Fault(number, "", "a withdrawal names either an id or hashes")
        name = line.id if operation in _WITH_ID else None
        if name is not None and not _RECORD.fullmatch(name):
            return Fault(number, "id", "an id is 1 to 128 of A-Z a-z 0-9 . _ : / @ + = -")
        vocabulary = self._rules.classifications
        if operation is Operation.ASSERT and line.classification not in vocabulary:
            known = ", ".join(sorted(vocabulary))
            return Fault(number, "classification", f"expected one of {known:.300}")
        return None


def _to_fault(error: msgspec.ValidationError, number: int) -> Fault:
    text = _LONG_QUOTE.sub("...", str(error))
    where = _PATH.search(text)
    reason = _PATH.sub("", text)
    return Fault(number, where[1] if where else "", reason[:1].lower() + reason[1:150])
