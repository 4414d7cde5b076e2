"""Who was sent a version that still has a retracted hash."""

import pytest

from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Role
from hashshare.domain.records import WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import NotFoundError
from tests.client.test_cases import ASSERTED, VALUES, push
from tests.support.federation import Federation

VALUE = HashValue(HashAlgorithm.SHA256, VALUES[0][HashAlgorithm.SHA256])


async def test_who_has_not_pulled_since_still_holds_it(federation: Federation) -> None:
    """From the versions that were sent; and who comes later never had it."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    await push(federation, acme, ASSERTED, Operation.ASSERT)
    for profile in (acme, beta):
        async with Client(profile) as client:
            await client.pull("csam/all/sha256")
    async with Client(federation.admin) as admin:
        (before,) = (await admin.admin.presence("csam", VALUE)).lists
        assert (before.list_name, before.left) == ("csam/all/sha256", None)
        assert {h.member: h.has_it for h in before.holders} == {"acme": True, "beta": True}
    await push(federation, acme, [WithdrawRecord("", VALUES[0])], Operation.WITHDRAW)
    gamma = await federation.join("gamma")
    for profile in (acme, gamma):
        async with Client(profile) as client:
            await client.pull("csam/all/sha256")
    async with Client(federation.admin) as admin:
        (after,) = (await admin.admin.presence("csam", VALUE)).lists
        assert after.entered == before.entered
        assert after.left is not None
        assert after.left > after.entered
        held = {holder.member: holder.has_it for holder in after.holders}
        assert held == {"acme": False, "beta": True, "gamma": False}
        with pytest.raises(NotFoundError):
            await admin.admin.presence("csam", HashValue(HashAlgorithm.SHA256, b"\x63" * 32))


@pytest.mark.parametrize("role", [Role.READER, Role.CONTRIBUTOR, Role.REVIEWER])
async def test_nobody_else_sees_who_holds_what(federation: Federation, role: Role) -> None:
    """What other members pulled is not for members."""
    await push(federation, federation.members["acme"], ASSERTED, Operation.ASSERT)
    other = await federation.join("other", (role,))
    async with Client(other) as client:
        with pytest.raises(NotFoundError, match="nothing here"):
            await client.admin.presence("csam", VALUE)
