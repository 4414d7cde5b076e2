"""Commands for those who keep the trust root: what members believe from the start."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from hashshare.cli.coalition_keys import read_trust, verify_held
from hashshare.cli.options import Json
from hashshare.cli.output import EXIT_CODES, ending, output
from hashshare.crypto.certificates import Issued
from hashshare.crypto.keys import PrivateKey, PublicKey, read_private_key, write_private_key
from hashshare.crypto.note import NoteVerifier
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Recovery, Trust, parse_trust
from hashshare.domain.names import format_time
from hashshare.domain.registry import Keys

if TYPE_CHECKING:
    from hashshare.crypto.trust_metadata import Signers
    from hashshare.service.ceremony import Ceremony, Draft

# What takes TUF's library is imported where it is used: it is slow to import, and help takes none.

app = typer.Typer(
    name="trust",
    help="Keep the trust root: by whose signatures members believe new keys.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")]


@app.command(epilog=f"Example: hashshare trust init coalition\n\n{EXIT_CODES}")
def init(folder: Folder, *, as_json: Json = False) -> None:
    """Make a trust root for a coalition that has none, with one key of each kind.

    hashshare init does this for new coalitions. Members that have joined before go on without
    one; new invitations lead to it. Hand the keys over then: hashshare trust rotate.
    """
    from hashshare.cli.ceremony import begin_trust_root, publish_trust

    with ending():
        now = datetime.now(UTC)
        trust = read_trust(folder)
        rooted: Trust = msgspec.structs.replace(trust, root=begin_trust_root(folder, now=now))
        publish_trust(folder, rooted, now=now)
        _put_in_force(folder)
    output.record({"root": 1}, text="the trust root is made; its keys lie in keys/trust-*.pem")


@app.command(epilog=f"Example: hashshare trust key my-root.pem\n\n{EXIT_CODES}")
def key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file for the private key.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a key for the ceremony, on a machine that is offline, and print its public half."""
    made = PrivateKey.generate()
    with ending():
        write_private_key(path, made)
    output.record({"key": made.public.text, "path": str(path)}, text=made.public.text)


@app.command(
    epilog="Example: hashshare trust rotate coalition --root KEY1 --root KEY2 --root KEY3 "
    f"--threshold 2\n\n{EXIT_CODES}"
)
def rotate(
    folder: Folder,
    *,
    root: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Who signs roots; repeated.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="How many of them must.")
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Who signs trust documents; repeated.")
    ] = None,
    targets_threshold: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="How many of them must.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draft a root with other keys; what is not named stays. It is signed with trust sign.

    Whoever signed roots before signs it too, so that members follow.
    """
    from hashshare.crypto.trust_metadata import signers_of

    with ending():
        ceremony = _ceremony(folder)
        before = ceremony.root().signed
        roots = _signers(signers_of(before, "root"), root, threshold)
        named = _signers(signers_of(before, "targets"), targets, targets_threshold)
        draft = ceremony.propose_root(roots, named, now=datetime.now(UTC))
        path = folder / "trust/drafts/root.json"
    _tell(draft, path)


@app.command(
    epilog="Example: hashshare trust propose coalition --recover-governance KEY --at-version 7"
    f"\n\n{EXIT_CODES}"
)
def propose(
    folder: Folder,
    *,
    document: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A whole trust document.")
    ] = None,
    governance: Annotated[
        list[str] | None,
        typer.Option("--recover-governance", metavar="KEY", help="Who is to govern; repeated."),
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, metavar="K", help="How many of them must.")] = 1,
    at_version: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="From this version of the registry on.")
    ] = None,
    log_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Signs checkpoints: rotate log-key made it.")
    ] = None,
    new_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certifies members: rotate ca made it.")
    ] = None,
    drop_ca: Annotated[
        str | None, typer.Option(metavar="FINGERPRINT", help="Is trusted no more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draft a trust document: one that is given, or the present one with something replaced."""
    with ending():
        trust = read_trust(folder) if document is None else parse_trust(document.read_bytes())
        if governance:
            if at_version is None:
                raise typer.BadParameter("--recover-governance goes with --at-version")
            keys = Keys(keys=tuple(governance), threshold=threshold)
            trust = trust.with_recovery(Recovery(governance=keys, version=at_version))
        if log_key is not None:
            trust = trust.with_log_key(NoteVerifier.parse(log_key))
        if new_ca is not None:
            trust = trust.with_authority(Issued.parse(new_ca.read_bytes()))
        if drop_ca is not None:
            trust = trust.without_authority(drop_ca)
        verify_held(folder, trust)
        draft = _ceremony(folder).propose_trust(trust, now=datetime.now(UTC))
    _tell(draft, folder / "trust/drafts/targets.json")


@app.command(epilog=f"Example: hashshare trust sign root.json --key my-root.pem\n\n{EXIT_CODES}")
def sign(
    draft: Annotated[Path, typer.Argument(metavar="FILE", help="root.json or targets.json.")],
    *,
    private_key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Signs.")],
    as_json: Json = False,
) -> None:
    """Add a signature to a draft, on whatever machine; send the file on to the next one."""
    from hashshare.service.ceremony import sign_file

    with ending():
        signer = read_private_key(private_key)
        role = sign_file(draft, signer)
    fields = {"role": role, "key": signer.public.text}
    output.record(fields, text=f"{role} is signed by {signer.public.text}")


@app.command(epilog=f"Example: hashshare trust publish coalition\n\n{EXIT_CODES}")
def publish(folder: Folder, *, as_json: Json = False) -> None:
    """Put what is drafted into force, once enough have signed it; a running server goes on."""
    from hashshare.cli.ceremony import ONLINE_KEY

    with ending():
        online = read_private_key(folder / "keys" / ONLINE_KEY)
        drafts = _ceremony(folder).publish(online, now=datetime.now(UTC))
        _put_in_force(folder)
    for draft in drafts:
        fields = {"role": draft.role, "version": draft.version}
        output.record(fields, text=f"{draft.role} {draft.version} is in force")


@app.command(epilog=f"Example: hashshare trust show coalition\n\n{EXIT_CODES}")
def show(folder: Folder, *, as_json: Json = False) -> None:
    """Show who signs, until when it lasts, and what is drafted and waits for whom."""
    from hashshare.crypto.trust_metadata import signers_of

    with ending():
        ceremony = _ceremony(folder)
        root, drafts = ceremony.root().signed, ceremony.drafts()
    fields: dict[str, object] = {"root": root.version, "expires": format_time(root.expires)}
    for name in ("root", "targets"):
        signers = signers_of(root, name)
        fields[f"{name}_threshold"] = signers.threshold
        fields[f"{name}_keys"] = [found.text for found in signers.keys]
    output.record(fields)
    for draft in drafts:
        _tell(draft, folder / f"trust/drafts/{draft.role}.json")


def _ceremony(folder: Path) -> "Ceremony":
    from hashshare.service.ceremony import Ceremony

    return Ceremony(folder / "trust")


def _signers(before: "Signers", keys: list[str] | None, threshold: int | None) -> "Signers":
    chosen = before.keys if keys is None else tuple(map(PublicKey.parse, keys))
    return replace(before, keys=chosen, threshold=threshold or before.threshold)


def _put_in_force(folder: Path) -> None:
    """Have the server give out the document that is in force."""
    trust = _ceremony(folder).trust()
    if trust is not None:
        fresh = folder / "trust.json.new"
        fresh.write_bytes(encode_document(trust))
        fresh.replace(folder / "trust.json")


def _tell(draft: "Draft", path: Path) -> None:
    fields = {
        "draft": str(path),
        "role": draft.role,
        "version": draft.version,
        "missing_signatures": draft.missing,
        "may_sign": [found.text for found in draft.may_sign],
    }
    output.record(fields)


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)
