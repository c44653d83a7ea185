"""The OpenAPI document says what is answered, problems included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.web_app import small_app


@pytest.fixture
def document() -> dict[str, Any]:
    """The document of the small service."""
    return small_app().openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """All operations of a document."""
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_every_operation_declares_its_problems_in_the_one_shape(document: dict[str, Any]) -> None:
    """Those that every request can meet, those of a body, and its own."""
    for operation in operations(document):
        refusals = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        expected = {"413", "422", "429", "500", "503"} | ({"400", "415"} if "requestBody" in operation else set())
        assert expected <= refusals.keys(), operation["summary"]
        for answer in refusals.values():
            assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "404" in document["paths"]["/notes/{note_id}"]["get"]["responses"]


def test_the_shape_of_the_framework_is_gone(document: dict[str, Any]) -> None:
    """detail is a text, or a list of what was wrong without what was sent."""
    schemas = document["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & schemas.keys()
    assert set(schemas["Problem"]["required"]) == {"detail", "code"}
    assert set(schemas["ValidationProblem"]["properties"]) == {"type", "loc", "msg"}


def test_the_document_is_the_same_however_often_it_is_asked_for(document: dict[str, Any]) -> None:
    """It is completed once."""
    app = small_app()
    assert app.openapi() is app.openapi()
    assert app.openapi() == document
