"""Making a coalition: its folder with all keys, and the first admin's profile."""

import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hashshare.cli.ceremony import begin_trust_root, publish_trust
from hashshare.cli.coalition_keys import write_secret
from hashshare.cli.sandbox import write_first_items
from hashshare.client.enrol import write_tls
from hashshare.client.profile import Profile
from hashshare.config import parse_listen
from hashshare.crypto.certificates import Authority, new_tls_key, tls_key_to_pem
from hashshare.crypto.keys import PrivateKey, write_private_key
from hashshare.crypto.note import NoteVerifier
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Trust
from hashshare.domain.members import Member, Role
from hashshare.domain.names import MemberId, format_time, parse_id
from hashshare.domain.registry import Keys, Registry, verify_registry
from hashshare.domain.sandbox import SANDBOX, SANDBOX_AUTHOR, sandbox_author, sandbox_hash_set
from hashshare.domain.statements import seal_registry
from hashshare.errors import AlreadyExistsError, MalformedError

if TYPE_CHECKING:
    from hashshare.domain.hash_sets import HashSet

_SETTINGS: Final = """\
# Settings of this coalition's server; docs/operations.md says what each does.
coalition = "{coalition}"
log = "{log}"
listen = "{listen}"
enrol_listen = "{enrol_listen}"
# Under which members reach the server; leave empty where it listens on that very address.
public_url = "{public_url}"
enrol_public_url = "{enrol_public_url}"
# "embedded", or postgresql://user@host/database (15 or newer).
database = "embedded"
# Where batches and snapshots are; empty is the folder data/blobs.
blobs = ""

[limits]
member_requests_per_second = 100.0
member_burst_requests = 500.0
max_batch_records = 2000000
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made.

    Attributes:
        hosts: Names and addresses under which the server is reached.
        sandbox: Whether to begin with a hash set of made-up hashes.
    """

    folder: Path
    coalition: str
    log: str
    admin: str
    listen: str
    enrol_listen: str
    public_url: str
    enrol_public_url: str
    hosts: list[str]
    sandbox: bool = True


def origin_of(coalition: str) -> str:
    """Return an origin for a coalition's log, made from its name."""
    words = re.sub(r"[^a-z0-9]+", "-", coalition.lower()).strip("-")
    return f"{words or 'coalition'}.example/log"


def create_coalition(plan: Plan) -> Profile:
    """Make the folder of a coalition; there is all of it, or none.

    Raises:
        AlreadyExistsError: The folder exists.
        MalformedError: A name or address is not acceptable.
    """
    if plan.folder.exists() and any(plan.folder.iterdir()):
        raise AlreadyExistsError(f"{plan.folder} exists and is not empty; nothing was changed")
    parse_id(plan.admin, what="member")
    if plan.admin == SANDBOX_AUTHOR:
        raise MalformedError(f"{SANDBOX_AUTHOR} is the name of the sandbox; choose another")
    if not re.fullmatch(r"[^\"\\\x00-\x1f]{1,200}", plan.coalition):
        raise MalformedError("a coalition's name has 1 to 200 characters, no quotes")
    for address in (plan.listen, plan.enrol_listen):
        parse_listen(address)
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    draft = plan.folder.parent / f".{plan.folder.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(mode=0o700)
        _fill(draft, plan)
        if plan.folder.exists():
            plan.folder.rmdir()
        draft.rename(plan.folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Profile.load(plan.folder / "admin")


def _fill(folder: Path, plan: Plan) -> None:
    now = datetime.now(UTC)
    for name in ("keys", "genesis", "data", "admin", "admin/keys"):
        (folder / name).mkdir(mode=0o700)
    keys = folder / "keys"
    authority = Authority.create(plan.coalition, now=now)
    log_key, publisher, governance, submission = (PrivateKey.generate() for _ in range(4))
    for name, key in (("log", log_key), ("publisher", publisher), ("governance", governance)):
        write_private_key(keys / f"{name}.pem", key)
    write_private_key(folder / "admin/keys/submission.pem", submission)
    write_private_key(folder / "admin/keys/governance.pem", governance)
    write_secret(keys / "ca.pem", tls_key_to_pem(authority.key))
    (keys / "ca-cert.pem").write_text(authority.root.pem)
    server_key = new_tls_key()
    write_secret(keys / "server.pem", tls_key_to_pem(server_key))
    server = authority.issue_server(server_key.public_key(), hosts=plan.hosts, now=now)
    (keys / "server-cert.pem").write_text(server.pem)
    root_text = begin_trust_root(folder, now=now)
    trust = Trust(
        root=root_text,
        ca=authority.root.pem,
        coalition=plan.coalition,
        governance=Keys(keys=(governance.public.text,)),
        log=plan.log,
        log_key=str(NoteVerifier(plan.log, log_key.public)),
        publishers=Keys(keys=(publisher.public.text,)),
    )
    (folder / "trust.json").write_bytes(encode_document(trust))
    publish_trust(folder, trust, now=now)
    _write_genesis(folder, plan, trust, governance, submission, now)
    _write_admin(folder, plan, trust, authority, now)
    settings = _SETTINGS.format(
        coalition=plan.coalition,
        log=plan.log,
        listen=plan.listen,
        enrol_listen=plan.enrol_listen,
        public_url=plan.public_url,
        enrol_public_url=plan.enrol_public_url,
    )
    (folder / "settings.toml").write_text(settings)


def _write_genesis(
    folder: Path,
    plan: Plan,
    trust: Trust,
    governance: PrivateKey,
    submission: PrivateKey,
    now: datetime,
) -> None:
    members = {
        plan.admin: Member(
            name=f"Admin of {plan.coalition}"[:200],
            roles=(Role.ADMIN,),
            submission_keys=(submission.public.text,),
        )
    }
    hash_sets: dict[str, HashSet] = {}
    if plan.sandbox:
        author = PrivateKey.generate()
        members[SANDBOX_AUTHOR] = sandbox_author(author.public.text)
        hash_sets[SANDBOX] = sandbox_hash_set()
        write_first_items(folder / "genesis", plan.log, author, now)
    registry = Registry(
        coalition=plan.coalition,
        log=plan.log,
        version=1,
        governance=trust.governance,
        publishers=trust.publishers,
        members=members,
        hash_sets=hash_sets,
    )
    verify_registry(registry)
    envelope, document = seal_registry(
        registry, [governance], reason="genesis", created_at=format_time(now)
    )
    (folder / "genesis/envelope.json").write_bytes(envelope)
    (folder / "genesis/registry.json").write_bytes(document)


def _write_admin(
    folder: Path, plan: Plan, trust: Trust, authority: Authority, now: datetime
) -> None:
    key = new_tls_key()
    issued = authority.issue_client(key.public_key(), member=plan.admin, now=now)
    profile = Profile(
        folder=folder / "admin",
        member=MemberId(plan.admin),
        coalition=plan.coalition,
        api_url=plan.public_url or f"https://{plan.listen}",
        enrol_url=plan.enrol_public_url or f"https://{plan.enrol_listen}",
        trust=trust,
    )
    write_tls(profile, key, issued.pem)
    (folder / "genesis/admin-cert.pem").write_text(issued.pem)
    (profile.folder / "trust.json").write_bytes(encode_document(trust))
    profile.save_settings()
