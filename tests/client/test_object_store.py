"""A coalition whose batches and snapshots are in an object store."""

from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest

from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.storage.blobs import Blobs
from tests.support.federation import Federation, run_federation
from tests.support.object_store import BUCKET, run_object_store

COUNT = 1500
LIST = "csam/all/sha256"


@pytest.fixture
async def stored(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Federation]:
    """A federation whose server was started with ``--artifacts s3://...``."""
    with run_object_store() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        artifacts = f"s3://{BUCKET}/coalition"
        async with run_federation(dsn, tmp_path, artifacts=artifacts) as federation:
            await federation.create()
            await federation.join("acme")
            await federation.join("beta")
            yield federation


async def test_a_coalition_keeps_its_artifacts_in_an_object_store(
    stored: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch goes there and comes back to an auditor, and a snapshot to who pulls."""
    monkeypatch.setattr("hashshare.client.pull.MANY_ENTRIES", 1000)
    records = [
        AssertRecord("", {HashAlgorithm.SHA256: n.to_bytes(32, "big")}, "A1", None, Basis.REVIEWED)
        for n in range(1, COUNT + 1)
    ]
    async with Client(stored.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records)
        await stored.published(pushed.log_index + 1)
        assert await acme.records_of(pushed.statement_id) == records
    async with Client(stored.members["beta"]) as beta:
        (pulled,) = await beta.pull(LIST)
    assert pulled.count == COUNT
    assert pulled.changes is None, "a snapshot was taken, not a delta"
    kept = Blobs.open(f"s3://{BUCKET}/coalition")
    names = [meta["path"].split("/")[0] for part in obstore.list(kept.store) for meta in part]
    assert {"artifacts", "batches", "log"} == set(names)
    assert not (stored.folder / "coalition" / "data" / "blobs").exists()
