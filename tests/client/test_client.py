"""Members push, pull, look up and watch through the library, against a real server."""

import asyncio

import pytest

from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord, Record, WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import PermissionDeniedError
from tests.support.federation import Federation

SHA256 = HashAlgorithm.SHA256


def records(*numbers: int, classification: str = "A1") -> list[AssertRecord]:
    """Made-up hashes."""
    return [
        AssertRecord("", {SHA256: n.to_bytes(32, "big")}, classification, None, Basis.REVIEWED)
        for n in numbers
    ]


async def test_what_one_member_pushes_another_pulls(federation: Federation) -> None:
    """With who said it; and the second push of the same submits nothing."""
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records(1, 2, 3))
        assert (pushed.counts.new, pushed.counts.hashes) == (3, 3)
        assert await acme.push("csam", records(1, 2, 3)) == []
    await federation.published(pushed.log_index + 1)

    async with Client(federation.members["beta"]) as beta:
        pulled = {str(p.name): p.count for p in await beta.pull()}
        assert pulled["csam/all/sha256"] == 3
        assert pulled["csam/confirmed/sha256"] == 0
        found = await beta.lookup(
            "csam/all/sha256", [HashValue(SHA256, n.to_bytes(32, "big")) for n in (1, 9)]
        )
        assert [f.attributes for f in found] == [b'{"by":{"acme":"A1"}}', None]


async def test_a_withdrawal_reaches_those_who_watch(federation: Federation) -> None:
    """The delta of a later version takes the hash out of the replica."""
    async with (
        Client(federation.members["acme"]) as acme,
        Client(federation.members["beta"]) as beta,
    ):
        (pushed,) = await acme.push("csam", records(1, 2))
        await federation.published(pushed.log_index + 1)
        counts: list[int] = []

        async def watch() -> None:
            async for pulled in beta.watch("csam/all/sha256"):
                counts.append(pulled.count)
                if pulled.count == 1:
                    return

        watching = asyncio.create_task(watch())
        await acme.push(
            "csam",
            await _withdrawals(acme, pushed.statement_id, keep=1),
            operation=Operation.WITHDRAW,
        )
        await asyncio.wait_for(watching, 20)
        assert counts[-1] == 1


async def _withdrawals(client: Client, statement_id: str, *, keep: int) -> list[Record]:
    said = await client.records_of(statement_id)
    return [WithdrawRecord("", record.hashes) for record in said[keep:]]


async def test_a_reader_may_not_push(federation: Federation) -> None:
    """And the refusal leaves nothing under way."""
    reader = await federation.join("reader", (Role.READER,))
    async with Client(reader) as client:
        with pytest.raises(PermissionDeniedError):
            await client.push("csam", records(1))
        assert (await client.whoami()).chain.sequence == 0
