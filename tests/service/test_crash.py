"""A server that is killed hard in the middle of a submission."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.domain.statements import Operation
from tests.support import crash
from tests.support.coalition import ACME, Coalition, assertion, make_batch, run_coalition
from tests.support.state import verify_consistent

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("moment", crash.MOMENTS)
async def test_after_a_kill_the_repetition_is_answered(
    dsn: str, tmp_path: Path, moment: str
) -> None:
    """The submission is in the log once: by the repetition if it was not before."""
    coalition = Coalition()
    crash.write_keys(coalition, tmp_path)
    batch = make_batch([assertion(1), assertion(2)])
    envelope = coalition.authors[ACME].sign(batch, Operation.ASSERT)
    (tmp_path / "batch").write_bytes(batch)
    (tmp_path / "envelope").write_bytes(envelope.encode())

    command = [sys.executable, str(ROOT / "tests/support/crash.py"), dsn, str(tmp_path), moment]
    died = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()

    async with run_coalition(dsn, tmp_path / "blobs", coalition=coalition) as running:
        result = await running.send(ACME, envelope)
        assert result.repeated is (moment == "after the commit")
        assert (result.log_index, result.counts.new) == (1, 2)
        verify_receipt(parse_receipt(result.receipt), envelope.encode(), coalition.log.verifier)
        await verify_consistent(running.pool)
