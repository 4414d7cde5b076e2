"""Writes ``schemas/``: the HTTP interface as OpenAPI 3.1, and every document as JSON Schema.

``python -m hashshare.wire.schema [--check] schemas``
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic.json_schema import models_json_schema

from hashshare import __version__
from hashshare.domain import joining, registry, statements
from hashshare.wire import (
    cases,
    feedback,
    lists,
    members,
    report,
    submissions,
    trail,
    vocabularies,
)
from hashshare.wire.delta import DeltaHeader
from hashshare.wire.document import WireDocument
from hashshare.wire.operations import JSON, OPERATIONS, Operation
from hashshare.wire.problem import MEDIA_TYPE as PROBLEM_TYPE
from hashshare.wire.problem import PROBLEM_TYPES

SIGNED: Final[dict[str, Any]] = {
    "submission": statements.Submission,
    "registry-statement": statements.RegistryStatement,
    "publication": statements.Publication,
    "redaction": statements.Redaction,
    "registry": registry.Registry,
    "trust": joining.Trust,
    "invitation": joining.Invitation,
    "delta-header": DeltaHeader,
    "vocabulary": vocabularies.VocabularyFile,
    "mapping": vocabularies.MappingFile,
}


def build_schemas() -> dict[str, Any]:
    """Return every file of ``schemas/`` by its name, as plain JSON values."""
    files: dict[str, Any] = {"openapi.json": build_openapi()}
    for name, kind in SIGNED.items():
        files[f"{name}.json"] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema"
        } | _with_portable_patterns(msgspec.json.schema(kind))
    return files


def build_openapi() -> dict[str, Any]:
    """Return the OpenAPI document of both listeners."""
    _, models = models_json_schema(
        [(kind, "serialization") for kind in _documents()],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hashshare",
            "version": __version__,
            "description": "docs/protocol.md says what is signed, and what a client verifies.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "https://127.0.0.1:8443"}],
        "security": [{"clientCertificate": []}],
        "paths": paths,
        "components": {
            "schemas": models["$defs"] | {"Problem": _problem_schema()},
            "securitySchemes": {"clientCertificate": {"type": "mutualTLS"}},
            "responses": {
                "Problem": {
                    "description": "A problem (RFC 9457); docs/problems.md has each type",
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` tell which are not what they should be."""
    check = "--check" in arguments
    (folder,) = (Path(a) for a in arguments if not a.startswith("--"))
    wanted = {
        name: json.dumps(content, indent=2, sort_keys=True) + "\n"
        for name, content in build_schemas().items()
    }
    stale = [
        name
        for name, text in wanted.items()
        if not (folder / name).exists() or (folder / name).read_text() != text
    ]
    stale += [path.name for path in folder.glob("*.json") if path.name not in wanted]
    if check:
        for name in stale:
            sys.stderr.write(f"out of date: {folder / name}; run scripts/fix\n")
        return int(bool(stale))
    folder.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_text(text)
    return 0


def _with_portable_patterns(schema: Any) -> Any:  # noqa: ANN401
    r"""Return ``schema`` with the anchors of ECMA-262, which has no ``\A`` and ``\Z``."""
    match schema:
        case {"pattern": str(pattern)}:
            anchored = "^" + pattern.removeprefix(r"\A").removesuffix(r"\Z") + "$"
            return schema | {"pattern": anchored}
        case dict():
            return {name: _with_portable_patterns(value) for name, value in schema.items()}
        case list():
            return [_with_portable_patterns(value) for value in schema]
        case _:
            return schema


def _documents() -> list[type[WireDocument]]:
    modules = (cases, feedback, lists, members, report, submissions, trail)
    found = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    return sorted(
        {k for k in found if issubclass(k, WireDocument) and k is not WireDocument},
        key=lambda k: k.__name__,
    )


def _describe(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.gives is not None:
        answer["content"] = _content(operation.gives)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            str(operation.status): answer,
            "default": _refusal(operation),
        },
        "parameters": _parameters(operation),
    }
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.enrol:
        described["security"] = []
        described["servers"] = [{"url": "https://127.0.0.1:8444"}]
    return described


def _refusal(operation: Operation) -> dict[str, Any]:
    if not operation.in_words:
        return {"$ref": "#/components/responses/Problem"}
    return {"description": "Why it was refused", "content": _content("text/plain")}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    text = {"schema": {"type": "string"}}
    return [
        *({"in": "path", "name": name, "required": True} | text for name in names),
        *({"in": "query", "name": name} | text for name in operation.query),
        *({"in": "header", "name": name} | text for name in operation.headers),
    ]


def _content(body: type[WireDocument] | str) -> dict[str, Any]:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "title", "status", "instance"],
        "properties": {
            "type": {"enum": ["about:blank", *sorted(p.uri for p in PROBLEM_TYPES.values())]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "faults": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "line": {"type": "integer"},
                        "field": {"type": "string"},
                        "reason": {"type": "string"},
                    },
                },
            },
            "total": {"type": "integer"},
            "sequence": {"type": "integer"},
            "previous": {"type": "string"},
            "retry_after_seconds": {"type": "integer"},
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
