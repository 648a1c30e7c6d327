"""Samples of requests: from files, and from API descriptions."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefront.up.sample_request import described_sample, sample_file


def swagger(schema: Any, **definitions: Any) -> dict[str, Any]:
    post = {"parameters": [{"in": "header"}, {"in": "body", "schema": schema}]}
    return {"swagger": "2.0", "paths": {"/": {"get": {}}, "/score": {"post": post}}, "definitions": definitions}


def openapi(content: Any) -> dict[str, Any]:
    body = {"requestBody": {"content": {"application/json": content}}}
    return {"openapi": "3.1.0", "paths": {"/other": {"post": {}}, "/score": {"post": body}}}


PET = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}, "name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("description", "sample"),
    [
        (
            swagger({"$ref": "#/definitions/In"}, In={"type": "object", "example": {"data": [[1, 2]]}}),
            {"data": [[1, 2]]},
        ),
        (swagger(PET), {"age": 1}),
        (swagger({"type": "object", "properties": PET["properties"]}), {"age": 1, "name": "text"}),
        (swagger({"type": "array", "items": {"type": "number"}}), [1.0]),
        (swagger({"allOf": [PET, {"properties": {"ok": {"type": "boolean"}}}]}), {"age": 1, "ok": True}),
        (swagger({"anyOf": [{"type": "null"}, {"enum": ["red", "blue"]}]}), "red"),
        (openapi({"schema": {"properties": {"x": {"default": 3}}}}), {"x": 3}),
        (openapi({"example": {"instances": [1]}}), {"instances": [1]}),
    ],
)
def test_the_sample_is_that_of_the_scoring_operation(description: Any, sample: Any) -> None:
    assert json.loads(described_sample(description)) == sample


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {},
        {"paths": {"/score": {"post": None}}},
        swagger({"type": "object"}),
        swagger({"$ref": "#/definitions/Missing"}),
        swagger({"$ref": "#/definitions/A"}, A={"$ref": "#/definitions/A"}),
        swagger({"example": "x" * 3000}),
    ],
)
def test_a_description_without_a_sample_gives_none(description: Any) -> None:
    assert described_sample(description) == ""


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"properties": {"next": {"$ref": "#/definitions/Node"}, "n": {"type": "integer"}}}
    assert json.loads(described_sample(swagger({"$ref": "#/definitions/Node"}, Node=node)))["n"] == 1


_junk = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "allOf", "anyOf", "$ref", "required", "enum", "example"]),
            inner,
            max_size=3,
        )
    ),
)


@settings(max_examples=500)
@given(_junk)
def test_no_description_is_an_error(schema: Any) -> None:
    for description in (schema, swagger(schema), openapi(schema), {"paths": schema}, openapi({"schema": schema})):
        described_sample(description)


def test_the_file_is_beside_the_script_or_in_the_folder_of_the_source(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    spec = {"versions": [{"replica": {"sourceDirectory": str(tmp_path), "entryScript": str(code / "score.py")}}]}
    assert sample_file(spec) is None
    (tmp_path / "sample.json").write_text("[1]")
    assert sample_file(spec) == tmp_path / "sample.json"
    (code / "sample.json").write_text("{not json")
    assert sample_file(spec) == tmp_path / "sample.json"
    (code / "sample.json").write_text("[2]")
    assert sample_file(spec) == code / "sample.json"
    assert sample_file({"versions": [{"replica": {"static": ["127.0.0.1:1"]}}]}) is None
