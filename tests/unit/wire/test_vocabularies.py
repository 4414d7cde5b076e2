"""Vocabularies and mappings as files: out and in again is the same; what is wrong is refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.documents import encode_document
from hashshare.domain.vocabularies import Term
from hashshare.errors import MalformedError
from hashshare.wire.vocabularies import (
    MAX_FILE_BYTES,
    MappingFile,
    VocabularyFile,
    parse_file,
    parse_matches,
    parse_terms,
    write_matches,
    write_terms,
)
from tests.support.vocabularies import matchings

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
# CSV has one sign for the end of a line, and cannot tell a missing text from an empty one.
cells = texts.filter(lambda text: "\r" not in text and "\0" not in text)
identifiers = st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True)


def terms_of(words: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Term]]:
    """Terms with such titles, some with a description."""
    term = st.builds(Term, title=words) | st.builds(Term, title=words, description=words)
    return st.dictionaries(identifiers, term, min_size=1, max_size=5)


def as_file(terms: dict[str, Term]) -> VocabularyFile:
    """A vocabulary of these terms."""
    return VocabularyFile(id="abc", title="Made up", version="1", terms=terms)


@given(terms_of(texts))
def test_a_vocabulary_comes_back_from_json(terms: dict[str, Term]) -> None:
    """Byte for byte, also when somebody has spaced and ordered it otherwise in between."""
    data = encode_document(as_file(terms))
    edited = json.dumps(dict(reversed(json.loads(data).items())), indent=4, ensure_ascii=True)

    for written in (data, edited.encode(), b"\xef\xbb\xbf" + data + b"\n"):
        read = parse_file(written, VocabularyFile)
        assert read == as_file(terms)
        assert encode_document(read) == data


@given(terms_of(cells))
def test_a_vocabulary_comes_back_from_csv(terms: dict[str, Term]) -> None:
    """Its terms; the rest is told beside."""
    data = write_terms(as_file(terms).vocabulary)
    read = parse_terms(data, vocabulary_id="abc", title="Made up", version="1")

    assert read == as_file(terms)
    assert write_terms(read.vocabulary) == data


@given(matchings)
def test_a_mapping_comes_back(matches: Any) -> None:
    """From both forms."""
    made = MappingFile(source="ours", target="abc", matches=matches)
    data = encode_document(made)

    assert parse_file(data, MappingFile) == made
    assert encode_document(parse_file(data, MappingFile)) == data
    assert parse_matches(write_matches(matches), source="ours", target="abc") == made


TERMS = '"terms":{"A":{"title":"a"}}'
VOCABULARY = f'{{"id":"abc","title":"Made up","version":"1",{TERMS}}}'


def test_a_vocabulary_by_hand_is_read() -> None:
    """Otherwise the next tests would say nothing."""
    assert parse_file(VOCABULARY.encode(), VocabularyFile) == as_file({"A": Term(title="a")})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        VOCABULARY[:-1],
        VOCABULARY + "{}",
        VOCABULARY.replace('"version":"1",', ""),
        VOCABULARY.replace('"version":"1"', '"version":1'),
        VOCABULARY.replace('"version":"1"', '"version":"1","by":"me"'),
        VOCABULARY.replace('"id":"abc"', '"id":"ABC"'),
        VOCABULARY.replace('"id":"abc"', '"id":"abc","id":"abc"'),
        VOCABULARY.replace('"A":{"title":"a"}', '"A":{"title":"a"},"A":{"title":"a"}'),
        VOCABULARY.replace('"A":{"title":"a"}', ""),
        VOCABULARY.replace('"A":', '"A B":'),
        VOCABULARY.replace('{"title":"a"}', '{"title":"\\ud800"}'),
        VOCABULARY.replace('{"title":"a"}', '{"title":NaN}'),
        VOCABULARY.replace('{"title":"a"}', '{"title":"a","description":null}'),
        VOCABULARY.replace('"title":"Made up"', '"title":""'),
        "[" * 100_000,
        VOCABULARY + " " * MAX_FILE_BYTES,
        '{"id":' + "9" * 5000 + "}",
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(text: str) -> None:
    """Broken, incomplete, with a name twice, of other types, or too long."""
    with pytest.raises(MalformedError):
        parse_file(text.encode(), VocabularyFile)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A,a\n",
        "title,term\na,A\n",
        "term,title,more\nA,a,b\n",
        "term,title\n",
        "term,title\nA\n",
        "term,title\nA,a,b\n",
        "term,title\nA,\n",
        "term,title\nA,a\nA,b\n",
        "term,title\nA B,a\n",
        'term,title\nA,"a\n',
        'term,title\nA,"a"b\n',
        "term;title\nA;a\n",
        "term,title\nA,\xff\n",
        "term,title\n" + "".join(f"t{n},t\n" for n in range(1001)),
        "term,title\nA," + "a" * 201 + "\n",
        "term,title\nA," + "a" * 200_000 + "\n",
    ],
)
def test_csv_that_is_no_vocabulary_is_refused(text: str) -> None:
    """Another header, another number of cells, a term twice, a quote that does not end."""
    with pytest.raises(MalformedError):
        parse_terms(text.encode("latin-1"), vocabulary_id="abc", title="Made up", version="1")


@pytest.mark.parametrize(
    "rows",
    ["", "A1,closeMatch,A\n", "A1,exactMatch,A\nA1,broadMatch,A\n", "A1,,A\n", "A1,exactMatch,\n"],
)
def test_csv_that_is_no_mapping_is_refused(rows: str) -> None:
    """An unknown relation, or one term mapped to the same one twice."""
    with pytest.raises(MalformedError):
        parse_matches(f"term,relation,to\n{rows}".encode(), source="ours", target="abc")


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: f"term,title\n{t}".encode()))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    """No error but ours comes out."""
    with suppress(MalformedError):
        parse_file(data, VocabularyFile)
    with suppress(MalformedError):
        parse_file(data, MappingFile)
    with suppress(MalformedError):
        parse_terms(data, vocabulary_id="abc", title="t", version="1")
    with suppress(MalformedError):
        parse_matches(data, source="ours", target="abc")
