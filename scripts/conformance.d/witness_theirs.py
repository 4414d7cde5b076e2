"""Ask a witness with the client of aics-witness: witness_theirs.py FOLDER URL VKEY.

FOLDER is tests/vectors. Says what was verified; the exit code is not 0 if anything failed. This
runs in an environment of aics-witness's own.
"""

import base64
import sys
from pathlib import Path

from aics_witness.feeder import WitnessAhead, WitnessClient, WitnessRejected

SIZES = (1, 2, 3, 7, 8, 255, 256, 257, 300)


def main() -> None:
    """Have all checkpoints cosigned, and what must be refused refused."""
    folder, url, vkey = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

    def prove(old: int, new: int) -> list[bytes]:
        lines = (folder / f"consistency/{old}-to-{new}").read_text().split()
        return [base64.b64decode(line, validate=True) for line in lines]

    with WitnessClient(url, vkey) as client:
        for size in SIZES:
            # Verifies the line, and that its time is now.
            client.submit((folder / f"checkpoints/{size}").read_bytes(), prove)
    with WitnessClient(url, vkey) as forgetful:
        # Begins at 0, is told the size, and goes on from there.
        forgetful.submit((folder / "checkpoints/300").read_bytes(), prove)
        for path, error in (
            ("checkpoints/8", WitnessAhead),
            ("forked-checkpoint", WitnessRejected),
        ):
            try:
                forgetful.submit((folder / path).read_bytes(), prove)
            except error:
                continue
            raise SystemExit(f"{path} was not refused")
    print(f"{len(SIZES)} checkpoints cosigned, a lost state told, a rollback and a fork refused")


if __name__ == "__main__":
    main()
