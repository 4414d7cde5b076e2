"""A replica for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hashshare.replica import Replica


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's replica is."""
    return tmp_path / "replica.sqlite"


@pytest.fixture
def replica(path: Path) -> Iterator[Replica]:
    """A new, empty replica."""
    with Replica.open(path) as opened:
        yield opened
