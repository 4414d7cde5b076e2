"""A profile: the folder that holds a member's keys, trust, replica and receipts."""

import os
import re
import tomllib
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from hashshare.crypto.certificates import Issued
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Trust, parse_trust
from hashshare.domain.names import MemberId
from hashshare.errors import MalformedError, NotFoundError

_FILE: Final = "profile.toml"


_URL: Final = re.compile(r"https://[A-Za-z0-9_.:\[\]-]{1,300}")


def parse_source(text: str) -> str:
    """Read the base URL of a server or mirror, such as ``https://mirror.example.org:8446``.

    Raises:
        MalformedError: ``text`` is not that.
    """
    url = text.removesuffix("/")
    if not _URL.fullmatch(url):
        raise MalformedError(f"not an address like https://host:port: {text!r:.80}")
    return url


@dataclass(frozen=True, slots=True)
class Profile:
    """Where a member's things are, and whom it talks to.

    Attributes:
        folder: Only its owner may read it.
        member: Its id.
        coalition: For people.
        api_url: Of the server, ``https://host:port``.
        enrol_url: Of its enrolment listener.
        trust: What the member believes from the start.
        warn_after: When what witnesses have confirmed last is old enough for a warning.
        stop_after: And when nothing more is believed.
        sources: Base URLs of mirrors to pull from, in this order, before the server.
    """

    folder: Path
    member: MemberId
    coalition: str
    api_url: str
    enrol_url: str
    trust: Trust
    warn_after: timedelta = timedelta(hours=2)
    stop_after: timedelta = timedelta(hours=26)
    sources: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the profile in ``folder``.

        Raises:
            NotFoundError: There is none.
            MalformedError: It is damaged.
        """
        try:
            settings = tomllib.loads((folder / _FILE).read_text())
            trust = parse_trust((folder / "trust.json").read_bytes())
            return cls(
                folder=folder,
                member=MemberId(settings["member"]),
                coalition=settings["coalition"],
                api_url=settings["api_url"],
                enrol_url=settings["enrol_url"],
                trust=trust,
                warn_after=timedelta(hours=float(settings.get("warn_after_hours", 2))),
                stop_after=timedelta(hours=float(settings.get("stop_after_hours", 26))),
                sources=tuple(map(parse_source, settings.get("sources", []))),
            )
        except FileNotFoundError as error:
            raise NotFoundError("there is no profile here; enrol first") from error
        except (tomllib.TOMLDecodeError, KeyError, ValueError, TypeError) as error:
            raise MalformedError(f"the file {_FILE} is damaged") from error

    def save_settings(self) -> None:
        """Write the settings; the trust and the keys are written by whoever makes them."""
        lines = [
            f'{name} = "{value}"\n'
            for name, value in (
                ("member", self.member),
                ("coalition", self.coalition.replace("\\", "\\\\").replace('"', '\\"')),
                ("api_url", self.api_url),
                ("enrol_url", self.enrol_url),
            )
        ]
        lines += [
            f"{name} = {age.total_seconds() / 3600:g}\n"
            for name, age in (
                ("warn_after_hours", self.warn_after),
                ("stop_after_hours", self.stop_after),
            )
        ]
        if self.sources:
            quoted = ", ".join(f'"{url}"' for url in self.sources)
            lines.append(f"sources = [{quoted}]\n")
        (self.folder / _FILE).write_text("".join(lines))

    def replace_trust(self, trust: Trust) -> Self:
        """Believe another trust document from now on, which was verified; durable at once."""
        fresh = self.folder / "trust.json.new"
        with fresh.open("wb") as file:
            file.write(encode_document(trust))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / "trust.json")
        return replace(self, trust=trust)

    @property
    def tls_path(self) -> Path:
        """The TLS key and its certificate, PEM, in one file that is replaced as a whole."""
        return self.folder / "keys" / "tls.pem"

    @property
    def replica_path(self) -> Path:
        """The replica."""
        return self.folder / "replica.sqlite"

    @property
    def journal_path(self) -> Path:
        """What was submitted, and what is under way."""
        return self.folder / "journal.sqlite"

    @property
    def logbook_path(self) -> Path:
        """How far the log is verified, and what keys of this profile signed in it."""
        return self.folder / "log.sqlite"

    def certificate(self) -> Issued:
        """Return the TLS certificate."""
        return Issued.parse(self.tls_path.read_bytes())

    def submission_key(self) -> PrivateKey:
        """Return the key that signs submissions."""
        return read_private_key(self.folder / "keys" / "submission.pem")

    def submission_key_ids(self) -> frozenset[str]:
        """Return the ids of all keys that signed submissions here, replaced ones too."""
        paths = (self.folder / "keys").glob("submission*.pem")
        return frozenset(read_private_key(path).public.key_id for path in paths)

    @property
    def witness_key_path(self) -> Path:
        """The key with which this member cosigns checkpoints, and nothing else."""
        return self.folder / "keys" / "witness.pem"

    def governance_key(self) -> PrivateKey:
        """Return the key that signs the registry.

        Raises:
            NotFoundError: This profile has none.
        """
        try:
            return read_private_key(self.folder / "keys" / "governance.pem")
        except FileNotFoundError as error:
            raise NotFoundError(
                "this profile has no governance key (keys/governance.pem)"
            ) from error

    def sub_folder(self, name: str) -> Path:
        """Return a folder inside the profile, made if it is not there."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
