"""Every statement is valid: PostgreSQL parses it, and all that it names exists."""

from types import ModuleType

import asyncpg
import pytest

from hashshare.storage import (
    assertions,
    cosignatures,
    database,
    feedback,
    hashes,
    log,
    registry,
    reports,
    submissions,
    trail,
)

MODULES: list[ModuleType] = [
    assertions,
    cosignatures,
    database,
    feedback,
    hashes,
    log,
    registry,
    reports,
    submissions,
    trail,
]
STATEMENTS = {
    f"{module.__name__}.{name}": statement
    for module in MODULES
    for name, statement in vars(module).items()
    if name.isupper() and isinstance(statement, str) and " " in statement
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_is_valid(dsn: str, name: str) -> None:
    """PostgreSQL parses it, and every table, column and type it names exists."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(hashes.CREATE_STAGED_HASH)
    await connection.execute(hashes.CREATE_STAGED_ASSERTION)
    await connection.prepare(STATEMENTS[name])
    await connection.close()


def test_there_are_statements() -> None:
    """The collection above finds them."""
    assert len(STATEMENTS) > 30
