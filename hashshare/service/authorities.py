"""The coalition's certificate authorities: which one certifies whom, while one is replaced.

A new authority certifies members as soon as the trust document names it first. The server's own
certificate is by the last one named, which members trust who have not heard of the new one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hashshare.crypto.certificates import Authority, Issued
from hashshare.domain.joining import Trust
from hashshare.errors import NotFoundError

_CERTIFICATE: Final = "-cert.pem"


@dataclass(frozen=True, slots=True)
class Authorities:
    """The authorities whose keys lie in a folder, as ``ca.pem`` with ``ca-cert.pem`` and so on.

    Attributes:
        folder: Of the coalition's keys; read at each use.
        trust: Gives the trust document in force.
    """

    folder: Path
    trust: Callable[[], Trust]

    def for_members(self) -> Authority:
        """Return the authority that certifies members from now on.

        Raises:
            NotFoundError: Its key is not in the folder.
            MalformedError: A file of it is damaged.
        """
        return self._find(self.trust().authorities[0])

    def for_server(self) -> Authority:
        """Return the authority that every member trusts; raises as ``for_members`` does."""
        return self._find(self.trust().authorities[-1])

    def _find(self, wanted: Issued) -> Authority:
        for path in self.folder.glob(f"ca*{_CERTIFICATE}"):
            if Issued.parse(path.read_bytes()).fingerprint == wanted.fingerprint:
                key = path.with_name(path.name.removesuffix(_CERTIFICATE) + ".pem")
                return Authority.from_pem(key.read_bytes(), path.read_bytes())
        raise NotFoundError(f"the key of the CA {wanted.fingerprint[:16]} is not in {self.folder}")
