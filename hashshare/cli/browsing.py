"""Commands for the console: a file with which a browser shows a member's certificate."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, ending, output

if TYPE_CHECKING:
    from hashshare.client import Profile

PASSWORD_BYTES: Final = 15

app = typer.Typer(
    name="admin", help="For admins and auditors: the console in a browser.", no_args_is_help=True
)


@app.callback()
def _admin() -> None:
    """For admins and auditors: the console in a browser."""


@app.command(
    "browser-cert",
    epilog=f"Example: hashshare admin browser-cert --output console.p12\n\n{EXIT_CODES}",
)
def browser_cert(
    *,
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="A new file.")] = Path(
        "console.p12"
    ),
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Write the certificate, its key and the coalition's CA to a file that browsers import.

    The password is made here and shown once. Import the file, let the browser trust the CA for web
    sites, and delete the file. After the next hashshare renew the browser needs a new one.
    """
    with ending():
        loaded = load_profile(profile)
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        _write_new(target, _pack(loaded, password))
    url = f"{loaded.api_url}/console"
    fields = {"file": str(target), "password": password, "url": url}
    output.record(fields)
    output.say("Firefox: Settings, Privacy & Security, View Certificates, Your Certificates")
    output.say("Chromium: Settings, Privacy and security, Security, Manage certificates")


def _pack(profile: "Profile", password: str) -> bytes:
    # Here, since help takes no cryptography.
    from hashshare.crypto.certificates import Issued, parse_tls_key, to_pkcs12

    pem = profile.tls_path.read_bytes()
    return to_pkcs12(
        parse_tls_key(pem),
        Issued.parse(pem),
        profile.trust.authorities,
        name=f"hashshare {profile.member}",
        password=password,
    )


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there, which only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)
