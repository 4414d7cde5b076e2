"""The generated schemas: up to date, usable by others, and what the documents accept."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.encoding import encode_base64
from hashshare.errors import HashshareError, MalformedError
from hashshare.wire import cases, feedback, lists, members, report, submissions, trail
from hashshare.wire.document import WireDocument
from hashshare.wire.operations import OPERATIONS
from hashshare.wire.problem import PROBLEM_TYPES, decode_problem, encode_problem
from hashshare.wire.schema import build_schemas, main

SCHEMAS = Path(__file__).parents[3] / "schemas"
FILES: dict[str, Any] = build_schemas()
COMPONENTS: dict[str, Any] = FILES["openapi.json"]["components"]["schemas"]
KINDS = [
    kind
    for module in (cases, feedback, lists, members, report, submissions, trail)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, WireDocument) and kind is not WireDocument
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, itself included."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from nodes(part)


def texts(min_size: int, max_size: int) -> st.SearchStrategy[str]:
    """Texts that UTF-8 can write."""
    return st.text(st.characters(codec="utf-8"), min_size=min_size, max_size=min(max_size, 40))


def strings_of(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts that a schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "contentEncoding" in schema:
        return st.binary(max_size=40).map(encode_base64)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].replace("$", r"\Z"))
    return texts(schema.get("minLength", 0), schema.get("maxLength", 40))


def objects_of(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that a schema allows, with its optional fields and without."""
    if "properties" not in schema:
        return st.dictionaries(texts(0, 10), values_of(schema["additionalProperties"]), max_size=3)
    fields = {name: values_of(part) for name, part in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)


BY_TYPE: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "string": strings_of,
    "integer": lambda schema: st.integers(schema.get("minimum"), schema.get("maximum")),
    "array": lambda schema: st.lists(values_of(schema["items"]), max_size=3),
    "object": objects_of,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """JSON values that a schema allows."""
    if "$ref" in schema:
        return values_of(COMPONENTS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of(*(values_of(choice) for choice in schema["anyOf"]))
    return BY_TYPE[schema["type"]](schema)


@cache
def examples_of(kind: type[WireDocument]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents that the published schema allows."""
    return values_of(COMPONENTS[kind.__name__])


def test_the_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """What is in schemas/ is what the code says."""
    assert main(["--check", str(SCHEMAS)]) == 0
    assert capsys.readouterr().err == ""


def test_a_file_that_is_stale_missing_or_left_over_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And writing them again repairs the first two."""
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0

    (tmp_path / "trust.json").unlink()
    (tmp_path / "registry.json").write_text("{}")
    (tmp_path / "former.json").write_text("{}")
    assert main(["--check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert all(name in told for name in ("trust.json", "registry.json", "former.json"))
    assert "submission.json" not in told

    (tmp_path / "former.json").unlink()
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", FILES)
def test_every_reference_leads_somewhere(name: str) -> None:
    """Within the same file."""
    for node in nodes(FILES[name]):
        if isinstance(ref := node.get("$ref"), str):
            place: Any = FILES[name]
            for part in ref.removeprefix("#/").split("/"):
                place = place[part]
            assert isinstance(place, dict)


@pytest.mark.parametrize("name", FILES)
def test_every_pattern_is_anchored_as_others_write_it(name: str) -> None:
    r"""JSON Schema has the expressions of ECMA-262, in which \A and \Z are no anchors."""
    for node in nodes(FILES[name]):
        if isinstance(pattern := node.get("pattern"), str):
            assert pattern.startswith("^")
            assert pattern.endswith("$")
            assert not re.search(r"\\[AZz]", pattern)


@pytest.mark.parametrize("name", FILES)
def test_every_object_is_closed_or_a_dictionary(name: str) -> None:
    """A field that one reader ignores and another obeys would split them."""
    open_ones = [
        node
        for node in nodes(FILES[name])
        if node.get("type") == "object" and "additionalProperties" not in node
    ]

    # Problems may grow: RFC 9457 section 3.2 has consumers ignore what they do not know.
    allowed = [COMPONENTS["Problem"], COMPONENTS["Problem"]["properties"]["faults"]["items"]]
    assert all(node in allowed for node in open_ones)


def test_every_document_of_the_interface_is_in_it() -> None:
    """Each has a schema, and each that an operation names exists."""
    assert {kind.__name__ for kind in KINDS} | {"Problem"} == set(COMPONENTS)
    for operation in OPERATIONS:
        for body in (operation.takes, operation.gives):
            assert body is None or isinstance(body, str) or body in KINDS


@every_kind
@given(data=st.data())
def test_what_the_schema_allows_is_read_and_comes_back(
    kind: type[WireDocument], data: st.DataObject
) -> None:
    """Printing and parsing are inverse, and no field is lost on the way."""
    example = data.draw(examples_of(kind))
    document = kind.parse(json.dumps(example).encode())

    assert kind.parse(document.encode()) == document
    assert document.model_dump(mode="json", exclude_unset=True) == example


@every_kind
@given(data=st.data())
def test_what_the_schema_does_not_allow_is_refused(
    kind: type[WireDocument], data: st.DataObject
) -> None:
    """An unknown field, one that is missing, or one of another type."""
    example = data.draw(examples_of(kind))
    schema = COMPONENTS[kind.__name__]
    name = data.draw(st.sampled_from(sorted(schema["properties"])))
    wrong: list[dict[str, Any]] = [
        example | {"unknown": 1},
        example | {name.upper(): 1},
        example | {name: 1.5},
        example | {name: [[]]},
        example | {name: {"a": {}}},
    ]
    wrong += [
        {n: v for n, v in example.items() if n != field} for field in schema.get("required", ())
    ]

    for document in wrong:
        with pytest.raises(MalformedError):
            kind.parse(json.dumps(document).encode())


DIGEST = '"' + "a" * 64 + '"'


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (members.ChainDocument, ""),
        (members.ChainDocument, "null"),
        (members.ChainDocument, "[]"),
        (members.ChainDocument, f'{{"sequence":1,"last_id":{DIGEST},}}'),
        (members.ChainDocument, f'{{"sequence":1,"last_id":{DIGEST}}} x'),
        (members.ChainDocument, f'{{"sequence":-1,"last_id":{DIGEST}}}'),
        (members.ChainDocument, f'{{"sequence":1.0,"last_id":{DIGEST}}}'),
        (members.ChainDocument, f'{{"sequence":"1","last_id":{DIGEST}}}'),
        (members.ChainDocument, f'{{"sequence":true,"last_id":{DIGEST}}}'),
        (members.ChainDocument, f'{{"sequence":NaN,"last_id":{DIGEST}}}'),
        (members.ChainDocument, f'{{"sequence":1,"last_id":{DIGEST.upper()}}}'),
        (members.ChainDocument, f'{{"sequence":1,"last_id":{DIGEST[:-1]}\\n"}}'),
        (members.InvitationRequest, '{"member":"Acme"}'),
        (members.InvitationRequest, '{"member":"acme\\n"}'),
        (members.InvitationRequest, '{"member":"acme","expires_in_hours":0}'),
        (members.RevocationRequest, '{"reason":""}'),
        (lists.ProofDocument, '{"proof":["QUI"]}'),
        (lists.ProofDocument, '{"proof":["QUJ="]}'),
        (lists.ProofDocument, '{"proof":[" QUI="]}'),
        (lists.ProofDocument, '{"proof":["QU_="]}'),
        (lists.ProofDocument, '{"proof":["é"]}'),
        (lists.ProofDocument, '{"proof":"QUI="}'),
        (lists.ProofDocument, '{"proof":["\\ud800"]}'),
        (lists.ProofDocument, '{"proof":' + "[" * 100_000),
    ],
)
def test_a_document_that_is_wrong_by_hand_is_refused(kind: type[WireDocument], text: str) -> None:
    """Other types, other spellings, and what is no JSON at all."""
    with pytest.raises(MalformedError):
        kind.parse(text.encode())


@every_kind
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_no_document(kind: type[WireDocument], data: bytes) -> None:
    """No error but ours comes out."""
    with pytest.raises(MalformedError):
        kind.parse(data)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    """It may be a token, or a hash in the wrong place."""
    secret = "5ec12e7" * 9
    with pytest.raises(MalformedError) as caught:
        members.ChainDocument.parse(json.dumps({"sequence": secret, "last_id": secret}).encode())

    assert secret not in str(caught.value)
    assert "sequence" in str(caught.value)


def test_every_problem_is_in_the_interface() -> None:
    """Under the URI that is sent."""
    kinds = COMPONENTS["Problem"]["properties"]["type"]["enum"]

    assert set(kinds) == {"about:blank", *(problem.uri for problem in PROBLEM_TYPES.values())}
    _, encoded = encode_problem(HashshareError("a test"), instance="1")
    assert set(json.loads(encoded)) <= set(COMPONENTS["Problem"]["properties"])


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", '"x"', "[]", "null"])
def test_a_problem_with_impossible_numbers_is_still_an_error_of_ours(number: str) -> None:
    """Reading a problem never raises, since it would hide what the server had to say."""
    for name in ("too-many-requests", "sequence-mismatch", "batch-faults"):
        uri = next(p.uri for p in PROBLEM_TYPES.values() if p.name == name)
        data = (
            f'{{"type":"{uri}","retry_after_seconds":{number},"sequence":{number},"previous":"a",'
            f'"faults":[{{"line":{number},"field":"","reason":""}}],"total":{number}}}'
        )
        assert isinstance(decode_problem(data.encode(), status=400), HashshareError)
