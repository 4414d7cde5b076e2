"""Members' own files: what is taken kindly, and what is refused with its line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hashshare.client.sources import Defaults, Reading, read_records
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis, DisputeReason, Media
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import BatchFaultsError, MalformedError

SHA256, MD5 = "ab" * 32, "cd" * 16
BOTH = {HashAlgorithm.SHA256: b"\xab" * 32, HashAlgorithm.MD5: b"\xcd" * 16}
ONE = {HashAlgorithm.SHA256: b"\xab" * 32}
A1 = Defaults(Operation.ASSERT, classification="A1")


def read(
    folder: Path, name: str, text: str | bytes, defaults: Defaults = A1
) -> tuple[list[Record], Reading]:
    """Return the records of a file, and what reading it came to."""
    path, reading = folder / name, Reading()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_records(path, defaults, reading)), reading


GOOD = {
    "with a header": ("a.csv", f"id,sha256,md5\ncase/7,{SHA256},{MD5}\n", "case/7", BOTH),
    "other names": ("a.csv", f"Record ID,SHA-256,note\ncase/7,{SHA256},x\n", "case/7", ONE),
    "without a header": ("a.txt", f"{SHA256}\n", "", ONE),
    "from a spreadsheet": ("a.csv", f"\ufeffhash\r\n {SHA256.upper()} \r\n", "", ONE),
    "NDJSON": ("a.ndjson", json.dumps({"id": "x", "hashes": {"sha256": SHA256}}), "x", ONE),
    "NDJSON, flat": ("a.jsonl", json.dumps({"sha256": SHA256, "md5": MD5}), "", BOTH),
}


@pytest.mark.parametrize("case", GOOD)
def test_forms_of_one_record(tmp_path: Path, case: str) -> None:
    """Each as its field writes it."""
    name, text, record, hashes = GOOD[case]
    assert read(tmp_path, name, text)[0] == [
        AssertRecord(record, hashes, "A1", None, Basis.REVIEWED)
    ]


def test_parquet(tmp_path: Path) -> None:
    """With values as bytes or as digits."""
    table = pa.table({"sha256": [b"\xab" * 32], "md5": [MD5], "media": ["image"]})
    pq.write_table(table, tmp_path / "made.parquet")
    data = (tmp_path / "made.parquet").read_bytes()
    records, reading = read(tmp_path, "a.parquet", data)
    assert records == [AssertRecord("", BOTH, "A1", Media.IMAGE, Basis.REVIEWED)]
    assert reading.columns == {"sha256": "sha256", "md5": "md5", "media": "media"}


def test_other_operations(tmp_path: Path) -> None:
    """A withdrawal names a record or hashes; a dispute has a reason."""
    taken, _ = read(tmp_path, "a.csv", f"id,sha256\nx,{SHA256}\n,{SHA256}\n",
                    Defaults(Operation.WITHDRAW))  # fmt: skip
    assert taken == [WithdrawRecord("x", {}), WithdrawRecord("", ONE)]
    disputed, _ = read(tmp_path, "b.csv", f"sha256,reason\n{SHA256},adult\n",
                       Defaults(Operation.DISPUTE))  # fmt: skip
    assert disputed == [DisputeRecord(ONE, DisputeReason.ADULT)]


def test_a_row_is_said_once(tmp_path: Path) -> None:
    """In whatever spelling; two records of one hash are two."""
    text = f"id,sha256\nx,{SHA256}\nx,{SHA256.upper()}\ny,{SHA256}\n"
    records, reading = read(tmp_path, "a.csv", text)
    assert (len(records), reading.duplicates, reading.respelled, reading.rows) == (2, 1, 1, 3)


HEAD = "id,sha256,classification,media,basis\n"
BAD = {
    "no hash": (f"{HEAD}x,,A1,,\n", 2, ""),
    "too short": (f"{HEAD}x,abcd,A1,,\n", 2, "sha256"),
    "an empty file's hash": (
        f"{HEAD},e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855,A1,,\n",
        2,
        "sha256",
    ),
    "no record id": (f"{HEAD}a b,{SHA256},A1,,\n", 2, "id"),
    "no medium": (f"{HEAD},{SHA256},A1,song,\n", 2, "media"),
    "no basis": (f"{HEAD},{SHA256},A1,,rumour\n", 2, "basis"),
    "of no algorithm": ("hash,classification\nabc,A1\n", 2, "hash"),
    "two opinions": (f"{HEAD},{SHA256},A1,,\n,{SHA256},A2,,\n", 3, ""),
    "no classification": (f"{HEAD},{SHA256},,,\n", 2, "classification"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_faulty_row_is_named(tmp_path: Path, case: str) -> None:
    """With its line and field; nothing is sent then."""
    text, line, field = BAD[case]
    with pytest.raises(BatchFaultsError) as caught:
        read(tmp_path, "a.csv", text, Defaults(Operation.ASSERT))
    assert [(fault.line, fault.field) for fault in caught.value.faults] == [(line, field)]


def test_the_first_twenty_faults_are_named_and_all_counted(tmp_path: Path) -> None:
    """So that a file of another kind does not flood the terminal."""
    with pytest.raises(BatchFaultsError) as caught:
        read(tmp_path, "a.csv", "sha256\n" + "xyz\n" * 50)
    assert (len(caught.value.faults), caught.value.total) == (20, 50)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "colour,size\nred,3\n"),
        ("a.csv", b"sha256\n\xff\xfe\n"),
        ("a.parquet", "no Parquet"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, text: str | bytes) -> None:
    """As a whole."""
    with pytest.raises(MalformedError):
        read(tmp_path, name, text)


def test_lines_that_are_no_json_objects(tmp_path: Path) -> None:
    """Each is a fault of its own."""
    with pytest.raises(BatchFaultsError) as caught:
        read(tmp_path, "a.ndjson", f'{{"sha256":"{SHA256}"}}\nnonsense\n[1]\n')
    assert [fault.line for fault in caught.value.faults] == [2, 3]
