"""What bounds us, measured in the same run: bare PostgreSQL, information, curl, an empty server."""

import asyncio
import math
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import numpy as np
import psutil

from benchmarks.stage import free_port
from benchmarks.values import SIZE, Part, values
from hashshare.client import Profile
from hashshare.client.session import Session
from hashshare.storage.copying import (
    Constant,
    Fixed,
    constant_int4,
    constant_int8,
    encode_rows,
    to_int4,
)
from hashshare.storage.database import create_database, migrate

_STAGED = """
    CREATE TEMPORARY TABLE IF NOT EXISTS bare (
        hash_id integer NOT NULL, algorithm text COLLATE "C" NOT NULL, value bytea NOT NULL,
        member_no integer NOT NULL, sequence bigint NOT NULL, record text COLLATE "C" NOT NULL,
        classification text COLLATE "C" NOT NULL, basis text COLLATE "C" NOT NULL
    ) ON COMMIT DELETE ROWS
"""
_HASHES = """
    INSERT INTO hash (hash_set_no, hash_id, algorithm, value)
    SELECT 1, hash_id, algorithm, value
      FROM bare
     WHERE NOT EXISTS (SELECT FROM hash
                        WHERE hash_set_no = 1 AND value = bare.value
                          AND algorithm = bare.algorithm)
"""
_ASSERTIONS = """
    INSERT INTO assertion (hash_set_no, hash_id, member_no, sequence, record, classification, basis)
    SELECT 1, hash_id, member_no, sequence, record, classification, basis FROM bare
"""


class BareDatabase:
    """The database work of an ingest without us, in tables with the same columns and indexes.

    The rows are staged by binary COPY, sorted, and inserted from there by an anti-join:
    hashes, and what the member says of them. COPY's bytes are made before the clock starts.
    """

    def __init__(self, url: str) -> None:
        self._dsn = asyncio.run(_create(url))
        self._last = 0

    def insert(self, *parts: Part) -> float:
        """Insert hashes that are new, and return the seconds up to the commit."""
        packed = np.frombuffer(values(list(parts)), np.uint8).reshape(-1, SIZE)
        packed = packed[np.lexsort(packed[:, :8].T[::-1])]
        seconds = asyncio.run(_insert(self._dsn, packed, self._last))
        self._last += len(packed)
        return seconds


async def _create(url: str) -> str:
    dsn = await create_database(url, "bare")
    await migrate(dsn)
    return dsn


async def _insert(dsn: str, packed: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
                  last: int) -> float:  # fmt: skip
    fields = (
        to_int4(np.arange(last + 1, last + 1 + len(packed))),
        Constant(b"sha256"),
        Fixed(packed),
        constant_int4(1),
        constant_int8(1),
        Constant(b""),
        Constant(b"A1"),
        Constant(b"reviewed"),
    )
    chunks = [chunk async for chunk in encode_rows(fields, len(packed))]

    async def ready() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ANALYZE hash")
        if not last:
            # Of an empty table the planner thinks that it can be gone through for each row.
            await connection.execute("SET enable_nestloop = off")
        await connection.execute(_STAGED)
        begin = time.perf_counter()
        async with connection.transaction():
            await connection.copy_to_table("bare", source=ready(), format="binary")
            await connection.execute(_HASHES)
            await connection.execute(_ASSERTIONS)
        return time.perf_counter() - begin
    finally:
        await connection.close()


def bound_bytes(count: int) -> float:
    """Return the bytes that any form of a set of random 256-bit values takes: log2 C(2^256, N).

    What is said of the entries is alike for all of them here, and adds nothing.
    """
    # Of 2^256 (2^256 - 1) ... / N! the factors above are all 2^256, as near as makes no matter.
    return (256 * count - math.lgamma(count + 1) / math.log(2)) / 8


def curl_and_hash(profile: Profile, path: str, folder: Path) -> tuple[float, str] | None:
    """Fetch with curl, over the same TLS, into sha256sum; seconds, digest. None without curl."""
    curl, digest = shutil.which("curl"), shutil.which("sha256sum")
    if curl is None or digest is None:
        return None
    ca = folder / "bench-ca.pem"
    ca.write_text(profile.trust.ca)
    tls = ["--cacert", str(ca), "--cert", str(profile.tls_path), "--key", str(profile.tls_path)]
    begin = time.perf_counter()
    fetching = subprocess.Popen(
        [curl, "--silent", "--fail", *tls, profile.api_url + path], stdout=subprocess.PIPE
    )
    hashed = subprocess.run([digest], stdin=fetching.stdout, capture_output=True, check=True)
    if fetching.wait():
        raise SystemExit("bench: curl failed")
    return time.perf_counter() - begin, hashed.stdout.decode().split()[0]


@contextmanager
def empty_server(coalition: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run an aiohttp handler that does nothing, behind the same TLS; its URL and process."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.empty", str(port), str(coalition / "keys")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("bench: the empty server did not start")
        yield f"https://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def tls_of(profile: Profile) -> ssl.SSLContext:
    """Return the TLS of a member."""
    return Session.of(profile).tls
