"""The trust root: people's signatures, and what members refuse whatever a server shows."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Root, Timestamp

from hashshare.cli.ceremony import ONLINE_KEY, ROOT_KEY, TARGETS_KEY
from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.rotation import recover_governance
from hashshare.crypto.keys import PrivateKey, write_private_key
from hashshare.crypto.trust_metadata import (
    Signers,
    encode,
    make_newest,
    make_root,
    make_targets,
    missing,
    parse,
    sign,
    verify_keys,
)
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Recovery, Trust, parse_trust
from hashshare.domain.members import Status
from hashshare.domain.registry import Keys
from hashshare.errors import (
    AlreadyExistsError,
    ConflictError,
    FreezeError,
    HashshareError,
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    RollbackError,
    SignatureInvalidError,
    SuspendedError,
    UnavailableError,
    VerificationError,
)
from hashshare.service.ceremony import Ceremony
from tests.cli.test_commands import sh
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.relay import Answer, run_relay
from tests.support.rooted import Rooted, keep


@pytest.fixture
def rooted(federation: Federation) -> Rooted:
    """The coalition's trust root, as ``init`` makes it."""
    return Rooted(federation.folder / "coalition")


async def _next_version(federation: Federation) -> int:
    async with Client(federation.admin) as client:
        return (await client.admin.registry()).version + 1


async def test_lost_governance_is_recovered(federation: Federation, rooted: Rooted) -> None:
    """Nobody has its keys any more; running members follow, and one that joins afterwards."""
    acme = federation.members["acme"]
    async with Client(acme) as running:
        await running.push("csam", records(1))
        await running.pull()
        key = PrivateKey.generate()
        version = await _next_version(federation)
        admin_keys = federation.admin.folder / "keys"
        (admin_keys / "governance.pem").unlink()
        write_private_key(admin_keys / "governance.pem", key)
        async with Client(federation.admin) as client:
            with pytest.raises(NotFoundError):
                await recover_governance(client.admin, now=datetime.now(UTC))
        # Invited before, and joins after.
        invitation = await federation.invite_known("beta")
        rooted.recover(key, version)
        async with Client(federation.admin) as client:
            await client.keep_trust()
            assert await recover_governance(client.admin, now=datetime.now(UTC))
            registry = await client.admin.registry()
        assert (registry.version, registry.governance.keys) == (version, (key.public.text,))
        (pushed,) = await running.push("csam", records(2))
        await federation.published(pushed.log_index + 1)
        # It has looked within the hour, and looks again because a signature fails.
        await running.pull()
        assert running.profile.trust == rooted.trust()
    late = (await enrol(invitation, federation.folder / "late")).profile
    assert late.trust != rooted.trust()
    async with Client(late) as client:
        await client.pull()
        assert client.profile.trust == rooted.trust() == Profile.load(late.folder).trust


async def test_nobody_recovers_governance_without_the_trust_root(
    federation: Federation, rooted: Rooted
) -> None:
    """Neither at the server, nor at a member to whom the server shows it."""
    version = await _next_version(federation)
    stranger = PrivateKey.generate()
    keys = federation.admin.folder / "keys"
    async with Client(federation.admin) as client:
        claimed: Trust = msgspec.structs.replace(
            client.profile.trust,
            recoveries=(Recovery(governance=Keys(keys=(stranger.public.text,)), version=version),),
        )
        (keys / "governance.pem").unlink()
        write_private_key(keys / "governance.pem", stranger)
        client._believe(replace(client.profile, trust=claimed))  # an impostor does
        with pytest.raises(SignatureInvalidError):
            await recover_governance(client.admin, now=datetime.now(UTC))
    document = rooted.folder / "trust.json"
    document.write_bytes(encode_document(claimed))
    assert (await keep(federation.members["acme"])).recoveries == ()


async def test_root_keys_are_handed_to_five_organizations(
    federation: Federation, rooted: Rooted
) -> None:
    """Three of five sign from then on, and two of other three; members follow each time."""
    profile = federation.members["acme"]
    first = [PrivateKey.generate() for _ in range(5)]
    ceremony, now = rooted.ceremony, datetime.now(UTC)
    targets = PrivateKey.generate()
    ceremony.propose_root(
        Signers(tuple(k.public for k in first), 3), Signers((targets.public,)), now=now
    )
    rooted.sign("root", first[0], first[1], first[1])
    with pytest.raises(ConflictError):
        rooted.publish()
    rooted.sign("root", first[2])
    # Those who join do not depose the one who was there.
    with pytest.raises(ConflictError):
        rooted.publish()
    rooted.sign("root", rooted.key(ROOT_KEY))
    rooted.propose()
    rooted.sign("targets", rooted.key(TARGETS_KEY))
    with pytest.raises(ConflictError):
        rooted.publish()
    rooted.sign("targets", targets)
    rooted.publish()
    assert await keep(profile) == rooted.trust()
    second = [PrivateKey.generate() for _ in range(3)]
    ceremony.propose_root(
        Signers(tuple(k.public for k in second), 2), Signers((targets.public,)), now=now
    )
    rooted.sign("root", *first[2:], *second[:2])
    rooted.publish()
    # One by those who sign no more.
    ceremony.propose_root(Signers((first[0].public,)), Signers((targets.public,)), now=now)
    rooted.sign("root", *first)
    with pytest.raises(ConflictError):
        rooted.publish()
    assert await keep(profile) == rooted.trust()
    assert ceremony.root().signed.version == 3


@pytest.mark.parametrize("keep_position", [True, False])
async def test_a_stolen_online_key_changes_nothing(
    federation: Federation, rooted: Rooted, keep_position: bool
) -> None:
    """It says what is newest, not what it says; nor can it go back, or stand still for ever."""
    profile = federation.members["acme"]
    if keep_position:
        await keep(profile)
    online, now = rooted.key(ONLINE_KEY), datetime.now(UTC)
    changed: Trust = msgspec.structs.replace(
        rooted.trust(), publishers=Keys(keys=(online.public.text,))
    )
    document = encode_document(changed)
    forged = make_targets(document, version=2, now=now)
    sign(forged, online)
    metadata = rooted.folder / "trust/metadata"
    (metadata / "2.targets.json").write_bytes(encode(forged))
    rooted.ceremony.renew(online, now=now, always=True)
    with pytest.raises(SignatureInvalidError):
        await keep(profile)


async def test_a_trust_root_that_goes_back_is_refused(
    federation: Federation, rooted: Rooted
) -> None:
    """An older timestamp, well signed, is shown to one who has seen a newer one."""
    profile = federation.members["acme"]
    path = rooted.folder / "trust/metadata/timestamp.json"
    old = path.read_bytes()
    rooted.propose(former_log_keys=())
    rooted.sign("targets", rooted.key(TARGETS_KEY))
    rooted.publish()
    await keep(profile)
    path.write_bytes(old)
    with pytest.raises(RollbackError):
        await keep(profile)


async def test_a_trust_root_that_is_frozen_is_refused(
    federation: Federation, rooted: Rooted
) -> None:
    """It has expired; or nothing is shown at all, and what was seen has expired."""
    profile = federation.members["acme"]
    await keep(profile)
    path = rooted.folder / "trust/metadata/timestamp.json"
    version = parse(path.read_bytes(), Timestamp).signed.version + 1
    long_ago = datetime.now(UTC) - timedelta(days=8)
    snapshot, timestamp = make_newest(1, version=version, now=long_ago)
    sign(snapshot, rooted.key(ONLINE_KEY))
    sign(timestamp, rooted.key(ONLINE_KEY))
    path.with_name(f"{version}.snapshot.json").write_bytes(encode(snapshot))
    path.write_bytes(encode(timestamp))
    with pytest.raises(FreezeError):
        await keep(profile)
    (profile.folder / "trust/timestamp.json").write_bytes(path.read_bytes())
    async with run_relay(federation, "acme") as relay:
        relay.attack = _withhold
        with pytest.raises(FreezeError):
            await keep(relay.profile)
    async with Client(federation.admin) as admin:
        for status in (Status.SUSPENDED, Status.ACTIVE):
            now = datetime.now(UTC)
            await admin.admin.set_status("acme", status, reason="a question", now=now)
            if status is Status.SUSPENDED:
                # Who is refused is told that, and not that something is withheld.
                with pytest.raises(SuspendedError):
                    await keep(profile)
    async with run_relay(federation, "beta") as relay:
        relay.attack = _withhold
        with pytest.raises(UnavailableError):
            async with Client(relay.profile) as client:
                client.session.attempts = 1
                await client.keep_trust()
    rooted.ceremony.renew(rooted.key(ONLINE_KEY), now=datetime.now(UTC), always=True)
    assert await keep(profile) == rooted.trust()


def _withhold(answer: Answer) -> None:
    if answer.path.startswith("/v1/trust/"):
        answer.status, answer.body = 503, b""


Alter = Callable[[bytes], bytes]


def _too_long(_: bytes) -> bytes:
    return b" " * 1_000_000


def _no_json(_: bytes) -> bytes:
    return b"{"


def _another(body: bytes) -> bytes:
    return body.replace(b'"version": ', b'"version": 7')


@pytest.mark.parametrize("alter", [_too_long, _no_json, _another])
@pytest.mark.parametrize(
    "name", ["timestamp.json", ".snapshot.json", ".targets.json", "trust.json"]
)
async def test_what_is_altered_on_the_way_is_refused(
    federation: Federation, rooted: Rooted, name: str, alter: Alter
) -> None:
    """Whichever of the files it is; and the next look is as if nothing had been."""

    def attack(answer: Answer) -> None:
        if answer.path.startswith("/v1/trust/") and answer.path.endswith(name):
            answer.body, answer.headers = alter(answer.body), {}

    rooted.propose(former_log_keys=())
    async with run_relay(federation, "acme") as relay:
        relay.attack = attack
        if (name, alter) != ("trust.json", _another):
            with pytest.raises(HashshareError):
                await keep(relay.profile)
        relay.attack = None
        assert await keep(relay.profile) == rooted.trust()


def test_keys_that_prove_nothing_are_refused() -> None:
    """Of small order, under two ids, online and offline, or too few for the threshold."""
    one, two, online = (PrivateKey.generate() for _ in range(3))
    now = datetime.now(UTC)
    targets = Signers((two.public,))
    for root, named, error in (
        (Signers((one.public, one.public), 2), targets, KeyUnsafeError),
        (Signers((online.public,)), targets, KeyUnsafeError),
        (Signers((one.public,)), Signers((online.public,)), KeyUnsafeError),
        (Signers((one.public,), 2), targets, MalformedError),
        (Signers((), 1), targets, MalformedError),
    ):
        with pytest.raises(error):
            make_root(root, named, online.public, version=1, now=now)
    made = make_root(Signers((one.public,)), targets, online.public, version=1, now=now)
    text = encode(made).decode()
    for other in ("01" + "00" * 31, two.public.raw.hex()):
        with pytest.raises(KeyUnsafeError):
            parse_and_verify(text.replace(one.public.raw.hex(), other))
    with pytest.raises(MalformedError):
        parse_and_verify(text.replace('"ed25519"', '"rsa"'))


def parse_and_verify(text: str) -> None:
    """As a client does with each root."""
    verify_keys(parse(text.encode(), Root).signed)


async def test_a_root_with_one_key_under_two_ids_is_refused(
    federation: Federation, rooted: Rooted
) -> None:
    """It is signed as it must be, and one thief would be two signers."""
    now, profile = datetime.now(UTC), federation.members["acme"]
    root = rooted.ceremony.root()
    made = parse(encode(root), Root)
    made.signed.version = 2
    (key_id,) = made.signed.roles["targets"].keyids
    copied = made.signed.keys[key_id]
    made.signed.keys["ab" * 32] = copied
    made.signed.roles["targets"].keyids.append("ab" * 32)
    made.signed.roles["targets"].threshold = 2
    made.signatures.clear()
    sign(made, rooted.key(ROOT_KEY))
    (rooted.folder / "trust/metadata/2.root.json").write_bytes(encode(made))
    assert missing(made, root.signed)[0] == 0
    with pytest.raises(VerificationError):
        await keep(profile)
    assert now < datetime.now(UTC)


async def test_a_document_of_another_coalition_is_refused(
    federation: Federation, rooted: Rooted
) -> None:
    """Where it is drafted, and by members, should enough sign it."""
    with pytest.raises(MixAndMatchError):
        rooted.propose(coalition="Another")
    changed: Trust = msgspec.structs.replace(rooted.trust(), coalition="Another")
    document = encode_document(changed)
    now = datetime.now(UTC)
    targets = make_targets(document, version=2, now=now)
    sign(targets, rooted.key(TARGETS_KEY))
    (rooted.folder / "trust/metadata/2.targets.json").write_bytes(encode(targets))
    (target,) = targets.signed.targets.values()
    name = f"{target.hashes['sha256']}.trust.json"
    (rooted.folder / "trust/targets" / name).write_bytes(document)
    rooted.ceremony.renew(rooted.key(ONLINE_KEY), now=now, always=True)
    with pytest.raises(MixAndMatchError):
        await keep(federation.members["acme"])


async def test_what_signs_online_is_renewed_in_time(rooted: Rooted, federation: Federation) -> None:
    """Each day, and no more often."""
    path = rooted.folder / "trust/metadata/timestamp.json"
    online, now = rooted.key(ONLINE_KEY), datetime.now(UTC)
    assert not rooted.ceremony.renew(online, now=now)
    assert rooted.ceremony.renew(online, now=now + timedelta(days=2))
    assert parse(path.read_bytes(), Timestamp).signed.expires > now + timedelta(days=8)
    assert federation.members


async def test_servers_with_copies_of_the_trust_root_say_the_same(
    rooted: Rooted, federation: Federation
) -> None:
    """Each signs for the day by itself, at whatever hour: nobody who changes over is refused."""
    online = rooted.key(ONLINE_KEY)
    rooted.propose(former_log_keys=())
    rooted.sign("targets", rooted.key(TARGETS_KEY))
    rooted.publish()
    other = Ceremony(federation.folder / "other")
    shutil.copytree(rooted.ceremony.folder, other.folder)
    noon = datetime.now(UTC).replace(hour=12) + timedelta(days=1)
    for ceremony, hours in ((rooted.ceremony, -11), (other, 3)):
        assert ceremony.renew(online, now=noon + timedelta(hours=hours))
    # One was away for some days.
    for ceremony, hours in ((rooted.ceremony, 24), (rooted.ceremony, 43), (other, 51)):
        assert ceremony.renew(online, now=noon + timedelta(hours=hours))
    for name in ("timestamp.json", f"{(noon.date() - date(1970, 1, 1)).days + 4}.snapshot.json"):
        assert rooted.ceremony.read_metadata(name) == other.read_metadata(name)


async def test_several_processes_may_look_at_once(federation: Federation, rooted: Rooted) -> None:
    """The library allows one; the others wait."""
    rooted.recover(PrivateKey.generate(), 90)
    found = await asyncio.gather(*(keep(federation.members["acme"]) for _ in range(8)))
    assert {encode_document(trust) for trust in found} == {encode_document(rooted.trust())}


async def test_a_coalition_without_a_trust_root_goes_on(
    federation: Federation, tmp_path: Path
) -> None:
    """And gets one with a command, for those who join from then on."""
    profile = federation.members["acme"]
    bare: Trust = msgspec.structs.replace(profile.trust, root=msgspec.UNSET)
    old = profile.replace_trust(bare)
    assert parse_trust(encode_document(bare)) == bare
    async with Client(old) as client:
        await client.pull()
        assert not await client.keep_trust()
    folder = federation.folder / "coalition"
    again = await sh("trust", "init", folder)
    assert again.code == 1
    assert "FileExists" not in again.err
    with pytest.raises(AlreadyExistsError):
        Ceremony(folder / "trust").begin(
            PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate().public,
            now=datetime.now(UTC),
        )  # fmt: skip
    assert tmp_path.exists()


async def test_the_ceremony_by_hand(federation: Federation, tmp_path: Path) -> None:
    """Keys on other machines, files sent around, and nothing in force before all is signed."""
    folder = federation.folder / "coalition"
    keys = [(await sh("trust", "key", tmp_path / f"{n}.pem")).out.strip() for n in range(3)]
    named = [word for key in keys for word in ("--root", key)]
    drafted = await sh("trust", "rotate", folder, *named, "--threshold", "2", "--json")
    assert drafted.objects[0]["missing_signatures"] == 2
    draft = folder / "trust/drafts/root.json"
    sent = tmp_path / "root.json"
    sent.write_bytes(draft.read_bytes())
    for signer in (tmp_path / "0.pem", tmp_path / "2.pem", folder / "keys" / ROOT_KEY):
        refused = await sh("trust", "publish", folder)
        assert refused.code == 1
        assert (await sh("trust", "sign", sent, "--key", signer)).code == 0
        draft.write_bytes(sent.read_bytes())
    assert (await sh("trust", "publish", folder)).code == 0
    shown = (await sh("trust", "show", folder, "--json")).objects
    assert shown == [shown[0]]
    assert (shown[0]["root"], shown[0]["root_threshold"]) == (2, 2)
    assert sorted(shown[0]["root_keys"]) == sorted(keys)
    words = ("--recover-governance", keys[0], "--at-version", 50, "--json")
    assert (await sh("trust", "propose", folder, *words)).code == 0
    key = folder / "keys" / TARGETS_KEY
    assert (await sh("trust", "sign", folder / "trust/drafts/targets.json", "--key", key)).code == 0
    assert (await sh("trust", "publish", folder)).code == 0
    assert json.loads((folder / "trust.json").read_text())["recoveries"][0]["version"] == 50
    assert len((await keep(federation.members["acme"])).recoveries) == 1
