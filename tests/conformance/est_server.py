"""Run a server with a member, for clients of EST that others wrote, until it is told to stop.

``python -m tests.conformance.est_server FOLDER`` writes into ``FOLDER``:

- ``ca.pem``, the coalition's CA, and ``acme.pem``, the key and the certificate of the member acme;
- ``api`` and ``enrol``, where the two listeners are, as HOST:PORT;
- ``ready``, once all that is there.
"""

import argparse
import asyncio
import os
import shutil
import signal
from pathlib import Path

from hashshare.cli.server import configure_logging
from hashshare.storage.database import migrate
from hashshare.storage.embedded import UNSAFE_SETTINGS, run_embedded
from tests.support.federation import run_federation


async def serve(folder: Path, dsn: str) -> None:
    """Serve until SIGTERM comes."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await migrate(dsn)
    async with run_federation(dsn, folder / "federation") as federation:
        acme = await federation.join("acme")
        shutil.copy(acme.tls_path, folder / "acme.pem")
        (folder / "ca.pem").write_text(acme.trust.ca)
        for name, url in (("api", acme.api_url), ("enrol", acme.enrol_url)):
            (folder / name).write_text(url.removeprefix("https://"))
        (folder / "ready").touch()
        await stopped.wait()


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    (folder / "federation").mkdir(parents=True)
    # What its requests are refused for is expected, and only hides the result.
    os.environ["HASHSHARE_LOG"] = "CRITICAL"
    configure_logging()
    with run_embedded(folder / "postgres", settings=UNSAFE_SETTINGS) as dsn:
        asyncio.run(serve(folder, dsn))


if __name__ == "__main__":
    main()
