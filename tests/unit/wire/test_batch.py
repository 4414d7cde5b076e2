"""Batches: one spelling, all faults told, and nothing else accepted."""

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.hashes import TRIVIAL, HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, RuleRecord
from hashshare.domain.statements import Operation
from hashshare.errors import BatchFaultsError, MalformedError, TooLargeError
from hashshare.wire.batch import MAX_LINE_BYTES, BatchRules, encode_batch, parse_batch
from hashshare.wire.collect import MAX_FAULTS
from hashshare.wire.compression import inflate
from tests.strategies import ALGORITHMS, CLASSIFICATIONS, batches

SALT = bytes(range(32))
SHA256 = "ab" * 32
MD5 = "cd" * 16
LINE = {
    "basis": "reviewed",
    "classification": "A1",
    "hashes": {"sha256": SHA256},
    "id": "case-7/img-2",
    "media": "image",
}


def rules(count: int, operation: Operation = Operation.ASSERT) -> BatchRules:
    return BatchRules(operation, frozenset(ALGORITHMS), frozenset(CLASSIFICATIONS), count)


def operation_of(records: list[Record]) -> Operation:
    if isinstance(records[0], AssertRecord):
        return Operation.ASSERT
    if isinstance(records[0], RuleRecord):
        return Operation.RULE
    return Operation.DISPUTE if isinstance(records[0], DisputeRecord) else Operation.WITHDRAW


def ndjson(*lines: object) -> bytes:
    """A batch of these lines; a text is taken as it is."""
    header = b"".join(encode_batch([], SALT))
    texts = [
        line if isinstance(line, str) else json.dumps(line, sort_keys=True, separators=(",", ":"))
        for line in lines
    ]
    return header + "".join(text + "\n" for text in texts).encode()


def faults_of(batch: bytes, operation: Operation = Operation.ASSERT) -> list[tuple[int, str]]:
    """Line and field of each fault."""
    with pytest.raises(BatchFaultsError) as caught:
        parse_batch([batch], rules(batch.count(b"\n") - 1, operation))
    assert caught.value.total >= len(caught.value.faults)
    return [(fault.line, fault.field) for fault in caught.value.faults]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


@given(records=batches, size=st.integers(1, 300))
def test_what_is_encoded_is_parsed(records: list[Record], size: int) -> None:
    """Wherever the bytes are cut; and in order."""
    data = b"".join(encode_batch(records, SALT))
    columns = parse_batch(cut(data, size), rules(len(records), operation_of(records)))

    assert list(columns.records()) == records
    for column in columns.hashes:
        values = [value.tobytes() for value in column.values]
        assert values == sorted(values)


def test_records_come_back_over_the_borders_of_pieces() -> None:
    """More records than are made at once, with algorithms that only some of them have."""
    made: list[Record] = [
        AssertRecord(
            f"r{number}",
            {
                algorithm: os.urandom(algorithm.size)
                for algorithm, every in ((HashAlgorithm.SHA256, 1), (HashAlgorithm.MD5, 3))
                if number % every == 0
            },
            "A1",
            None,
            Basis.REVIEWED,
        )
        for number in range(20_001)
    ]
    data = b"".join(encode_batch(made, SALT))

    assert list(parse_batch([data], rules(len(made))).records()) == made


@given(records=batches, where=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_byte_more_or_less_is_another_batch_or_refused(
    records: list[Record], where: int, byte: int
) -> None:
    """What is accepted is printed as it was; nothing else than our errors comes out."""
    data = b"".join(encode_batch(records, SALT))
    where %= len(data)
    for changed in (
        data[:where] + bytes([byte]) + data[where + 1 :],
        data[:where] + bytes([byte]) + data[where:],
        data[:where] + data[where + 1 :],
    ):
        operation = operation_of(records)
        try:
            columns = parse_batch([changed], rules(changed.count(b"\n") - 1, operation))
        except BatchFaultsError as error:
            assert 1 <= len(error.faults) <= MAX_FAULTS
        else:
            salt = bytes.fromhex(json.loads(changed.split(b"\n")[0])["salt"])
            assert b"".join(encode_batch(columns.records(), salt)) == changed


@given(data=st.binary(max_size=200), operation=st.sampled_from(Operation))
def test_any_bytes_are_a_batch_or_refused(data: bytes, operation: Operation) -> None:
    """No other error comes out."""
    for batch in (data, ndjson() + data, ndjson() + data + b"\n"):
        with pytest.raises(BatchFaultsError):
            parse_batch([batch], rules(1, operation))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hashes": {}}, "hashes"),
        ({"hashes": {"sha3": SHA256}}, "hashes"),
        ({"hashes": {"sha512": "ab" * 64}}, "hashes.sha512"),
        ({"hashes": {"sha256": SHA256[:-2]}}, "hashes.sha256"),
        ({"hashes": {"sha256": SHA256.upper()}}, "hashes.sha256"),
        ({"hashes": {"sha256": " " + SHA256[1:]}}, "hashes.sha256"),
        ({"hashes": {"sha256": "0x" + SHA256[2:]}}, "hashes.sha256"),
        ({"hashes": {"sha256": SHA256 + "00"}}, "hashes.sha256"),
        ({"hashes": {"sha256": 5}}, "hashes.sha256"),
        ({"hashes": {"md5": None}}, "hashes.md5"),
        ({"hashes": [SHA256]}, "hashes"),
        ({"classification": "Z9"}, "classification"),
        ({"classification": 1}, "classification"),
        ({"basis": "guessed"}, "basis"),
        ({"media": "smell"}, "media"),
        ({"media": None}, ""),
        ({"id": None}, ""),
        ({"id": ""}, "id"),
        ({"id": "a" * 129}, "id"),
        ({"id": "white space"}, "id"),
        ({"id": "uml\u00e4ut"}, ""),
        ({"notes": "free text"}, ""),
    ],
)
def test_a_fault_is_told_by_line_and_field(change: dict[str, object], field: str) -> None:
    """In the middle of good lines."""
    good = [{**LINE, "id": f"r{n}"} for n in range(3)]

    assert faults_of(ndjson(good[0], {**LINE, **change}, *good[1:])) == [(3, field)]


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text + " ",
        lambda text: " " + text,
        lambda text: text.replace(":", ": ", 1),
        lambda text: text + "\r",
        lambda text: text.replace("A1", "\\u0041\\u0031"),
        lambda text: text.replace('"media":"image"', '"media":"image","media":"image"'),
        lambda text: '{"media":"image",' + text[1:].replace(',"media":"image"', ""),
        lambda _: "",
        lambda _: "[]",
        lambda _: "null",
        lambda text: text + text,
        lambda _: '{"basis"',
    ],
)
def test_another_spelling_of_a_line_is_refused(spell: Callable[[str], str]) -> None:
    """Also where a JSON parser would take it."""
    text = json.dumps(LINE, sort_keys=True, separators=(",", ":"))

    assert (2, "") in faults_of(ndjson(spell(text)))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b'{"format":"hashshare-batch/2","salt":"' + b"ab" * 32 + b'"}',
        b'{"format":"hashshare-batch/1","salt":"' + b"AB" * 32 + b'"}',
        b'{"format":"hashshare-batch/1","salt":"' + b"ab" * 31 + b'"}',
        b'{"salt":"' + b"ab" * 32 + b'","format":"hashshare-batch/1"}',
        b'{"format": "hashshare-batch/1","salt":"' + b"ab" * 32 + b'"}',
    ],
)
def test_another_header_is_refused(header: bytes) -> None:
    """The first line has one form."""
    assert faults_of(header + b"\n" + ndjson(LINE).split(b"\n")[1] + b"\n") == [(1, "")]


@pytest.mark.parametrize("trivial", list(TRIVIAL.items()), ids=lambda item: str(item[1]))
def test_trivial_hashes_are_refused(trivial: tuple[bytes, str]) -> None:
    """In each algorithm of the hash set; among good lines and among faulty ones."""
    value, _ = trivial
    for algorithm in ALGORITHMS:
        if algorithm.size == len(value):
            line = {**LINE, "hashes": {algorithm.value: value.hex()}}
            field = f"hashes.{algorithm}"
            assert faults_of(ndjson({**LINE, "id": "other"}, line)) == [(3, field)]
            assert faults_of(ndjson("x", line)) == [(2, ""), (3, field)]


def test_what_stands_twice_is_refused() -> None:
    """A record id, and a hash among the records without id; but not among those with."""
    bare = {key: value for key, value in LINE.items() if key != "id"}
    other = {**bare, "hashes": {"md5": MD5, "sha256": "ef" * 32}}

    assert faults_of(ndjson(LINE, other, LINE)) == [(4, "id")]
    assert faults_of(ndjson(bare, other, bare, other)) == [
        (4, "hashes.sha256"),
        (5, "hashes.md5"),
        (5, "hashes.sha256"),
    ]
    parse_batch([ndjson(LINE, bare, {**LINE, "id": "other"})], rules(3))


def test_a_hash_is_disputed_or_withdrawn_once() -> None:
    """In one batch."""
    dispute = {"hashes": {"sha256": SHA256}, "reason": "adult"}
    withdrawal = {"hashes": {"sha256": SHA256}}

    assert faults_of(ndjson(dispute, dispute), Operation.DISPUTE) == [(3, "hashes.sha256")]
    assert faults_of(ndjson(withdrawal, withdrawal), Operation.WITHDRAW) == [(3, "hashes.sha256")]
    assert faults_of(ndjson({"id": "a"}, {"id": "a"}), Operation.WITHDRAW) == [(3, "id")]


def test_a_withdrawal_names_an_id_or_hashes() -> None:
    """Not both, and not neither."""
    both = {"hashes": {"sha256": SHA256}, "id": "a"}

    assert faults_of(ndjson(both, "{}", {"hashes": {}}), Operation.WITHDRAW) == [
        (2, ""),
        (3, ""),
        (4, "hashes"),
    ]


def test_records_are_of_the_operation() -> None:
    """An assertion is no dispute, and the other way round."""
    dispute = {"hashes": {"sha256": SHA256}, "reason": "adult"}

    assert faults_of(ndjson(LINE), Operation.DISPUTE) == [(2, "")]
    assert faults_of(ndjson(LINE), Operation.WITHDRAW) == [(2, "")]
    assert [line for line, _ in faults_of(ndjson(dispute))] == [2]


@pytest.mark.parametrize("announced", [0, 1, 3])
def test_another_count_is_refused(announced: int) -> None:
    """The statement and the batch must agree."""
    with pytest.raises(BatchFaultsError):
        parse_batch([ndjson(LINE, {**LINE, "id": "other"})], rules(announced))


def test_a_truncated_batch_is_refused() -> None:
    """Every line ends with LF, and without a header there is no batch."""
    with pytest.raises(BatchFaultsError):
        parse_batch([ndjson(LINE)[:-1]], rules(1))
    with pytest.raises(BatchFaultsError):
        parse_batch([], rules(0))


def test_a_line_without_end_is_refused_early() -> None:
    """However much follows, no more than a line is kept."""

    def endless() -> object:
        yield ndjson(LINE)
        while True:
            yield b"x" * MAX_LINE_BYTES

    with pytest.raises(BatchFaultsError):
        parse_batch(endless(), rules(1))  # type: ignore[arg-type] # an endless iterator


def test_the_first_faults_are_told_and_all_are_counted() -> None:
    """In order of lines, whether a line shows them alone or not."""
    bad = {**LINE, "classification": "Z9"}
    lines = [LINE, *([bad] * 100), LINE]
    with pytest.raises(BatchFaultsError) as caught:
        parse_batch([ndjson(*lines)], rules(len(lines)))

    assert caught.value.total == 101
    assert [fault.line for fault in caught.value.faults] == list(range(3, 3 + MAX_FAULTS))


def test_no_fault_tells_a_hash() -> None:
    """Not even one that stands where something else should."""
    lines = [
        {**LINE, "hashes": {"sha256": SHA256.upper()}},
        {**LINE, "hashes": {SHA256: SHA256}},
        {**LINE, "media": SHA256},
        {**LINE, "classification": SHA256},
        {**LINE, SHA256: 1},
        {**LINE, "id": "x y" + SHA256},
        SHA256,
    ]
    with pytest.raises(BatchFaultsError) as caught:
        parse_batch([ndjson(*lines)], rules(len(lines)))

    assert len(caught.value.faults) == len(lines)
    assert not any(SHA256[:16] in f"{fault}".lower() for fault in caught.value.faults)


def test_a_salt_is_never_left_out() -> None:
    """Without it the logged digest would confirm a guessed batch."""
    with pytest.raises(RuntimeError):
        list(encode_batch([], os.urandom(31)))


def test_a_zstd_frame_is_exactly_one() -> None:
    """Truncated, followed by something, or not zstd: refused. A bomb stops at the limit."""
    import zstandard

    plain = os.urandom(10_000)
    frame = zstandard.compress(plain)
    bomb = zstandard.compress(bytes(100_000_000))

    assert b"".join(inflate(cut(frame, 7), max_bytes=len(plain))) == plain
    for bad in (frame[:-1], frame + b"x", frame + frame, plain, b""):
        with pytest.raises(MalformedError):
            list(inflate([bad], max_bytes=3 * len(plain)))
    for data, limit in ((frame, len(plain) - 1), (bomb, 1_000_000)):
        with pytest.raises(TooLargeError):
            list(inflate([data], max_bytes=limit))
