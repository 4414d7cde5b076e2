"""Commands that replace the coalition's own keys."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from hashshare.cli.coalition_keys import (
    add_authority,
    add_log_key,
    retire_authorities,
    retire_log_keys,
)
from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.crypto.keys import PrivateKey, PublicKey, write_private_key
from hashshare.errors import NotFoundError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")]
Retire = Annotated[
    bool, typer.Option("--retire", help="Delete what the trust document in force replaced.")
]

app = typer.Typer(
    name="rotate",
    help="Replace the keys of the coalition, while its server and its members go on.",
    no_args_is_help=True,
)


@app.command(epilog=f"Example: hashshare rotate governance\n\n{EXIT_CODES}")
def governance(
    *,
    recovered: Annotated[
        bool,
        typer.Option("--recovered", help="Govern by the keys that the trust root names instead."),
    ] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Replace this profile's governance key by a new one; for admins.

    If it failed, repeat it. A copy of the old key on the server signs nothing more: enrolments
    then wait for an admin, unless the new one is copied there.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.rotation import recover_governance, rotate_governance

    async def work() -> PublicKey:
        async with open_client(profile) as client:
            if recovered:
                await client.keep_trust()
                await recover_governance(client.admin, now=datetime.now(UTC))
                return client.profile.governance_key().public
            return await rotate_governance(client.admin, now=datetime.now(UTC))

    key = run(work())
    output.record({"governance_key": key.text}, text=f"{key.text} governs from now on")


@app.command("publisher-key", epilog=f"Example: hashshare rotate publisher-key DIR\n\n{EXIT_CODES}")
def publisher_key(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a new publisher's key beside the old one, and print what an admin needs to know of it.

    For operators. It signs nothing before an admin says so; a running server finds it then.
    """
    key = PrivateKey.generate()
    with ending():
        if not (folder / "keys").is_dir():
            raise NotFoundError(f"there is no coalition in {folder}")
        path = folder / "keys" / f"publisher-{key.public.key_id[:16]}.pem"
        write_private_key(path, key)
    output.record({"publisher_key": key.public.text, "path": str(path)}, text=key.public.text)
    if not output.as_json:
        output.say(f"let it publish: hashshare rotate publisher {key.public.text}")


@app.command(epilog=f"Example: hashshare rotate publisher 3q2+7w…=\n\n{EXIT_CODES}")
def publisher(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As rotate publisher-key prints it.")],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Let this key sign what is published, and none besides; for admins.

    The server goes on without a pause if it has the key. What the old one signed stays valid.
    """
    from hashshare.client.rotation import replace_publisher  # here for the same reason

    async def work() -> bool:
        public = PublicKey.parse(key)
        async with open_client(profile) as client:
            return await replace_publisher(client.admin, public, now=datetime.now(UTC))

    changed = run(work())
    output.record(
        {"publisher_key": key, "changed": changed},
        text=f"{key} publishes from now on" if changed else f"{key} publishes already",
    )


@app.command("log-key", epilog=f"Example: hashshare rotate log-key DIR\n\n{EXIT_CODES}")
def log_key(folder: Folder, *, retire: Retire = False, as_json: Json = False) -> None:
    """Sign checkpoints with a new key of the log, too; a running server begins at once.

    For operators. Members believe the new key once a trust document names it; the old one goes on
    beside it for those who look late, until --retire.
    """
    with ending():
        verifier = retire_log_keys(folder) if retire else add_log_key(folder)
    output.record({"log_key": str(verifier)}, text=str(verifier))
    if not output.as_json and not retire:
        output.say(f"let members believe it: hashshare trust propose {folder} --log-key {verifier}")


@app.command(epilog=f"Example: hashshare rotate log\n\n{EXIT_CODES}")
def log(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Have the registry's trust policy for witnesses name the log's new key; for admins."""

    async def work() -> bool:
        async with open_client(profile) as client:
            await client.keep_trust()
            return await client.admin.name_log_key(now=datetime.now(UTC))

    changed = run(work())
    told = "the policy names the log's key now" if changed else "there is nothing to change"
    output.record({"changed": changed}, text=told)


@app.command(epilog=f"Example: hashshare rotate ca DIR\n\n{EXIT_CODES}")
def ca(folder: Folder, *, retire: Retire = False, as_json: Json = False) -> None:
    """Make a new certificate authority; it certifies nobody before a trust document names it.

    For operators. The old one goes on beside it until a trust document drops it; --retire then
    deletes its key.
    """
    with ending():
        if retire:
            count = retire_authorities(folder)
            output.record({"deleted": count}, text=f"{count} deleted")
            return
        made = add_authority(folder)
        path = folder / f"keys/ca-{made.fingerprint[:16]}-cert.pem"
    output.record({"fingerprint": made.fingerprint, "certificate": str(path)})
    if not output.as_json:
        output.say(f"let members trust it: hashshare trust propose {folder} --new-ca {path}")


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)
