"""Differences: what one version of the registry changes of the one before, for people."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hashshare.domain.documents import encode_document
from hashshare.domain.registry import Registry

_ABSENT = "(none)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was.

    Attributes:
        what: Where in the registry, such as ``members.acme.status``.
        before: As JSON, but for texts, which are as they are.
        after: The same.
    """

    what: str
    before: str
    after: str


def differences(old: Registry, new: Registry) -> Iterator[Difference]:
    """Yield what ``new`` changes, but for the number of the version."""
    before, after = (json.loads(encode_document(registry)) for registry in (old, new))
    for difference in _compare("", before, after):
        if difference.what != "version":
            yield difference


def _compare(where: str, before: object, after: object) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            inner = f"{where}.{name}" if where else name
            yield from _compare(inner, before.get(name, _ABSENT), after.get(name, _ABSENT))
        return
    yield Difference(where, _shown(before), _shown(after))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
