"""Options that several commands share."""

import os
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import typer

from hashshare.cli.output import output
from hashshare.domain.names import parse_time
from hashshare.domain.policy_texts import split_names
from hashshare.errors import MalformedError

if TYPE_CHECKING:
    from hashshare.client import Client, Profile


def _set_json(value: bool) -> bool:  # as typer calls it
    output.as_json = value
    return value


Json = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON object a line.", callback=_set_json, is_eager=True),
]

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="DIR",
        help="The member's profile. [default: $HASHSHARE_PROFILE, or the user's own]",
    ),
]

SetName = Annotated[str, typer.Argument(metavar="SET", help="Id of the hash set.")]

SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="URL",
        help="A mirror, or the server; tried in the order given. [default: as the profile says]",
    ),
]

Artifacts = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where batches and snapshots are: file:// or s3://. [default: as in the settings]",
    ),
]


def profile_folder(chosen: Path | None) -> Path:
    """Return the folder of the profile that is meant."""
    if chosen is not None:
        return chosen
    if named := os.environ.get("HASHSHARE_PROFILE"):
        return Path(named)
    return Path(platformdirs.user_config_dir("hashshare")) / "profile"


def load_profile(chosen: Path | None) -> "Profile":
    """Return the profile that is meant.

    Raises:
        NotFoundError: There is none.
    """
    # Here, as in open_client: every command has these options, and its help and completion
    # must not wait for what only its work needs.
    from hashshare.client import Profile

    return Profile.load(profile_folder(chosen))


def open_client(chosen: Path | None, *, sources: Iterable[str] = ()) -> "Client":
    """Return a client of the profile that is meant, to be used as a context.

    Raises:
        NotFoundError: There is none.
    """
    from hashshare.client import Client

    return Client(load_profile(chosen), sources=sources)


def names_or_none(text: str | None) -> tuple[str, ...] | None:
    """Return what a comma-separated text names; None when it is empty or not given."""
    return split_names(text) if text else None


def parse_moment(text: str) -> datetime:
    """Read a day, which begins at midnight UTC, or a moment.

    Raises:
        MalformedError: ``text`` is neither.
    """
    try:
        day = date.fromisoformat(text) if len(text) == len("2026-11-23") else None
    except ValueError as error:
        raise MalformedError(f"no such day: {text!r:.40}") from error
    if day is None:
        return parse_time(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
