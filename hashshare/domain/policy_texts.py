"""Parts of a policy as people write them, on the command line and in forms."""

import re
from typing import Final

from hashshare.domain.names import parse_term
from hashshare.errors import MalformedError

_COUNTRY: Final = re.compile(r"[A-Z]{2}")


def split_names(text: str) -> tuple[str, ...]:
    """Return what a comma-separated text names, sorted and each once."""
    return tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))


def parse_countries(text: str) -> tuple[str, ...]:
    """Return the jurisdictions of ``FR,DE``, sorted.

    Raises:
        MalformedError: One is not two capital letters.
    """
    countries = split_names(text)
    for country in countries:
        if not _COUNTRY.fullmatch(country):
            raise MalformedError(
                f"a country is written in two capital letters, such as FR, not {country!r:.40}"
            )
    return countries


def parse_terms(text: str) -> tuple[str, ...]:
    """Return the terms of ``iwf:A,iwf:B``, sorted.

    Raises:
        MalformedError: One is not written so.
    """
    terms = split_names(text)
    for term in terms:
        parse_term(term)
    return terms


def parse_weights(text: str) -> dict[str, int]:
    """Return the weights of ``acme=2,beta=3``.

    Raises:
        MalformedError: One is not from 2 to 1000, or a member has two.
    """
    weights: dict[str, int] = {}
    for part in split_names(text):
        member, _, weight = part.partition("=")
        if not (weight.isdecimal() and len(weight) < 5 and 2 <= int(weight) <= 1000):
            raise MalformedError(f"a weight is written MEMBER=2 up to 1000, not {part!r:.80}")
        if member in weights:
            raise MalformedError(f"there are two weights of {member:.80}")
        weights[member] = int(weight)
    return weights
