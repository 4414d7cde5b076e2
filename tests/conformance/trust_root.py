"""Make trust roots as files, for others' clients: ``python -m tests.conformance.trust_root DIR``.

DIR gets ``1.root.json``, which a client believes from the start, ``trust.json``, to which it must
come, ``repository/`` as a server shows it after three ceremonies, and under ``refused/`` what must
not be believed. Keys are made here and thrown away, but for what the metadata says of them.
"""

import argparse
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from tuf.api.metadata import Targets, Timestamp

from hashshare.cli.ceremony import ONLINE_KEY, ROOT_KEY, TARGETS_KEY
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.crypto.trust_metadata import encode, make_newest, make_targets, parse, sign
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import parse_trust

ORGANIZATIONS = 5
THRESHOLD = 3


def hashshare(*words: object) -> dict[str, object]:
    """Run a command that must succeed; return what it says last."""
    command = [sys.executable, "-m", "hashshare", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def hold_ceremonies(coalition: Path) -> list[Path]:
    """Hand the root over to five organizations, and then to others; return the keys of those."""
    hashshare("init", coalition, "--coalition", "Conformance")
    before = [coalition / "keys" / ROOT_KEY]
    for round_ in range(2):
        keys = [coalition / f"root-{round_}-{number}.pem" for number in range(ORGANIZATIONS)]
        publics = [hashshare("trust", "key", key)["key"] for key in keys]
        named = [word for public in publics for word in ("--root", public)]
        hashshare("trust", "rotate", coalition, *named, "--threshold", THRESHOLD)
        for key in (*before[:THRESHOLD], *keys[-THRESHOLD:]):
            hashshare("trust", "sign", coalition / "trust/drafts/root.json", "--key", key)
        hashshare("trust", "publish", coalition)
        before = keys
    log_key = hashshare("rotate", "log-key", coalition)["log_key"]
    hashshare("trust", "propose", coalition, "--log-key", log_key)
    draft = coalition / "trust/drafts/targets.json"
    hashshare("trust", "sign", draft, "--key", coalition / "keys" / TARGETS_KEY)
    hashshare("trust", "publish", coalition)
    return before


def forge(coalition: Path, folder: Path, keys: list[Path]) -> None:
    """Write what must be refused, each beside what is true."""
    online = read_private_key(coalition / "keys" / ONLINE_KEY)
    stranger = PrivateKey.generate()
    metadata = coalition / "trust/metadata"
    newest = parse((metadata / "timestamp.json").read_bytes(), Timestamp).signed.version
    targets = max(int(path.name.split(".")[0]) for path in metadata.glob("*.targets.json"))
    now = datetime.now(UTC)

    def begin(name: str) -> Path:
        shutil.copytree(coalition / "trust/metadata", folder / name / "metadata")
        shutil.copytree(coalition / "trust/targets", folder / name / "targets")
        return folder / name / "metadata"

    def confirm(at: Path, of_targets: int, version: int, key: PrivateKey, moment: datetime) -> None:
        snapshot, timestamp = make_newest(of_targets, version=version, now=moment)
        sign(snapshot, key)
        sign(timestamp, key)
        (at / f"{version}.snapshot.json").write_bytes(encode(snapshot))
        (at / "timestamp.json").write_bytes(encode(timestamp))

    confirm(begin("older timestamp"), targets, newest - 1, online, now)
    confirm(begin("older targets"), targets - 1, newest + 1, online, now)
    confirm(begin("expired"), targets, newest + 1, online, now - timedelta(days=8))
    confirm(begin("timestamp by a stranger"), targets, newest + 1, stranger, now)

    trust = parse_trust((coalition / "trust.json").read_bytes())
    document = encode_document(msgspec.structs.replace(trust, former_log_keys=()))
    at = begin("targets by the online key")
    made = make_targets(document, version=targets + 1, now=now)
    sign(made, online)
    (at / f"{targets + 1}.targets.json").write_bytes(encode(made))
    (target,) = made.signed.targets.values()
    (at.parent / "targets" / f"{target.hashes['sha256']}.trust.json").write_bytes(document)
    confirm(at, targets + 1, newest + 1, online, now)

    at = begin("another trust document")
    current = parse((at / f"{targets}.targets.json").read_bytes(), Targets).signed
    (target,) = current.targets.values()
    (at.parent / "targets" / f"{target.hashes['sha256']}.trust.json").write_bytes(document)

    at = begin("root by two of three keys before it")
    number = max(int(path.name.split(".")[0]) for path in at.glob("*.root.json"))
    own = [coalition / f"own-{k}.pem" for k in range(THRESHOLD)]
    publics = [hashshare("trust", "key", key)["key"] for key in own]
    named = [word for public in publics for word in ("--root", public)]
    hashshare("trust", "rotate", coalition, *named, "--threshold", THRESHOLD)
    draft = coalition / "trust/drafts/root.json"
    for key in (*keys[: THRESHOLD - 1], *own):
        hashshare("trust", "sign", draft, "--key", key)
    shutil.copy(draft, at / f"{number + 1}.root.json")


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    coalition = folder / "coalition"
    keys = hold_ceremonies(coalition)
    for name in ("metadata", "targets"):
        shutil.copytree(coalition / "trust" / name, folder / "repository" / name)
    shutil.copy(coalition / "trust/metadata/1.root.json", folder / "1.root.json")
    shutil.copy(coalition / "trust.json", folder / "trust.json")
    forge(coalition, folder / "refused", keys)


if __name__ == "__main__":
    main()
