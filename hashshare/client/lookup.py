"""Looking up hashes in the replica; ``looker`` asks the server."""

from collections.abc import Iterable
from dataclasses import dataclass

from hashshare.domain.hashes import HashValue
from hashshare.domain.names import ListName
from hashshare.errors import MalformedError
from hashshare.replica import Replica


@dataclass(frozen=True, slots=True)
class Finding:
    """What a list says of one hash.

    Attributes:
        version: Of the hash set, at which this holds.
        attributes: Canonical JSON; None when the hash is not in the list.
    """

    value: HashValue
    list_name: ListName
    version: int
    attributes: bytes | None


def look_up(replica: Replica, name: ListName, texts: Iterable[str | HashValue]) -> list[Finding]:
    """Return what the replica's list says of each hash; asks no server.

    Raises:
        NotFoundError: The list was not pulled.
        MalformedError: A hash is not in its form, or of another algorithm.
    """
    values = [parse_in(text, name) for text in texts]
    with replica.reading() as reading:
        version = reading.state(str(name)).version
        found = reading.lookup(str(name), [value.value for value in values])
    return [Finding(v, name, version, a) for v, a in zip(values, found, strict=True)]


def parse_in(value: HashValue | str, name: ListName) -> HashValue:
    """Read a hash, whose algorithm may be left out where the list tells it.

    Raises:
        MalformedError: It is not one, or of another algorithm than the list.
    """
    if isinstance(value, str):
        value = HashValue.parse(value if ":" in value else f"{name.algorithm}:{value}")
    if value.algorithm is not name.algorithm:
        raise MalformedError(f"{name} holds {name.algorithm} hashes, not {value.algorithm}")
    return value
