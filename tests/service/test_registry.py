"""The registry comes into force version by version, signed by the one before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.domain.registry import Keys, Registry
from hashshare.errors import (
    DigestMismatchError,
    HashshareError,
    MalformedError,
    NotFoundError,
    RegistryConflictError,
    SignatureInvalidError,
)
from hashshare.service.registry import AppendedRegistry
from tests.support.coalition import BETA, NOW, Coalition, Running, run_coalition
from tests.support.state import read_all, verify_consistent


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with run_coalition(dsn, tmp_path) as running:
        yield running
        await verify_consistent(running.pool)


async def next_registry(running: Running) -> Registry:
    registry = (await running.registries.current()).registry
    return registry.with_member(BETA, registry.members[BETA])


async def append(running: Running, registry: Registry) -> AppendedRegistry:
    return await running.registries.append(*running.coalition.sign_registry(registry), now=NOW)


async def test_the_next_version_comes_into_force(running: Running) -> None:
    """With a receipt; the versions before it can still be read; a repetition is no second one."""
    registry = await next_registry(running)
    envelope, document = running.coalition.sign_registry(registry)
    appended = await running.registries.append(envelope, document, now=NOW)

    current = await running.registries.current()
    assert (current.registry, current.document, current.envelope) == (registry, document, envelope)
    assert (appended.version, appended.log_index, current.log_index) == (2, 1, 1)
    verify_receipt(parse_receipt(appended.receipt), envelope, running.coalition.log.verifier)
    assert (await running.registries.read(1)).registry.version == 1
    assert await running.registries.append(envelope, document, now=NOW) == appended
    with pytest.raises(NotFoundError):
        await running.registries.read(3)


async def test_of_two_next_versions_one_comes_into_force(running: Running) -> None:
    """The other admin is told to fetch the registry again."""
    registry = await next_registry(running)
    other = msgspec.structs.replace(registry, coalition=registry.coalition)
    signed = [
        running.coalition.sign_registry(version, reason=reason)
        for version, reason in ((registry, "one"), (other, "other"))
    ]
    results = await asyncio.gather(
        *(running.registries.append(*pair, now=NOW) for pair in signed), return_exceptions=True
    )

    refusals = [type(result) for result in results if isinstance(result, Exception)]
    assert refusals == [RegistryConflictError]
    assert (await running.registries.current()).registry.version == 2


async def refuse(running: Running, error: type[HashshareError], pair: tuple[bytes, bytes]) -> None:
    before = await read_all(running.pool)
    with pytest.raises(error) as caught:
        await running.registries.append(*pair, now=NOW)
    assert type(caught.value) is error
    assert await read_all(running.pool) == before


async def test_what_is_not_the_next_version_is_refused(running: Running) -> None:
    """A version again, one left out, another's signature, another document."""
    registry = await next_registry(running)
    skipped = msgspec.structs.replace(registry, version=3)
    again = msgspec.structs.replace(registry, version=1)
    stranger = Coalition()
    envelope, document = running.coalition.sign_registry(registry)
    _, other = running.coalition.sign_registry(skipped)

    await refuse(running, RegistryConflictError, running.coalition.sign_registry(skipped))
    await refuse(
        running, RegistryConflictError, running.coalition.sign_registry(again, reason="again")
    )
    await refuse(running, SignatureInvalidError, stranger.sign_registry(registry))
    await refuse(running, DigestMismatchError, (envelope, other))
    await refuse(running, MalformedError, (envelope + b" ", document))


async def test_governance_passes_to_the_keys_of_the_last_version(running: Running) -> None:
    """The old key signs the version that replaces it, and none after."""
    old, new = running.coalition.governance, PrivateKey.generate()
    registry = await next_registry(running)
    rotated = msgspec.structs.replace(registry, governance=Keys(keys=(new.public.text,)))
    await append(running, rotated)
    later = rotated.with_member(BETA, rotated.members[BETA])

    await refuse(running, SignatureInvalidError, running.coalition.sign_registry(later))
    running.coalition.governance = new
    await append(running, later)
    running.coalition.governance = old


async def test_a_database_belongs_to_one_coalition(running: Running) -> None:
    """Starting again is fine; with another first registry it is refused."""
    genesis = running.coalition.sign_registry(running.coalition.registry())
    await running.registries.ensure_genesis(*genesis)

    other = Coalition()
    with pytest.raises(RegistryConflictError):
        await running.registries.ensure_genesis(*other.sign_registry(other.registry()))
