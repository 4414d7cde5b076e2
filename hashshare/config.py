"""The server's settings, as the coalition folder holds them."""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hashshare.errors import MalformedError, NotFoundError

EMBEDDED = "embedded"


class LimitSettings(BaseModel):
    """What callers may ask for."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    member_requests_per_second: float = Field(default=100.0, gt=0)
    member_burst_requests: float = Field(default=500.0, ge=1)
    enrolment_requests_per_second: float = Field(default=1.0, gt=0)
    enrolment_burst_requests: float = Field(default=30.0, ge=1)
    max_batch_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    max_batch_records: int = Field(default=2_000_000, ge=1)


class ServerSettings(BaseModel):
    """How a server runs; see docs/operations.md.

    Attributes:
        coalition: Name of the coalition, for people.
        log: Origin of the log.
        listen: Where the API listens, ``host:port``; port 0 lets the system choose.
        enrol_listen: Where enrolment listens.
        public_url: Under which members reach the API; "" to derive it from ``listen``.
        enrol_public_url: Under which they reach enrolment.
        database: ``embedded``, or the URL of a PostgreSQL database (15 or newer).
        blobs: Where batches and snapshots are: "" for a folder beside the settings, or a
            URL that obstore takes, such as ``s3://bucket/prefix``.
        witness_ca: A PEM file with the CAs of witnesses that are asked; "" for the system's.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    coalition: str
    log: str
    listen: str = "127.0.0.1:8443"
    enrol_listen: str = "127.0.0.1:8444"
    public_url: str = ""
    enrol_public_url: str = ""
    database: str = EMBEDDED
    blobs: str = ""
    witness_ca: str = ""
    limits: LimitSettings = LimitSettings()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the settings of the coalition in ``folder``.

        Raises:
            NotFoundError: There is no coalition.
            MalformedError: The settings are not in their form.
        """
        try:
            return cls.model_validate(tomllib.loads((folder / "settings.toml").read_text()))
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no coalition in {folder}; make one with init") from error
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise MalformedError(f"settings.toml: {str(error)[:300]}") from error


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``host:port``.

    Raises:
        MalformedError: ``text`` is not that.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise MalformedError(f"an address is written HOST:PORT, not {text!r:.80}")
    return host.strip("[]"), int(port)
