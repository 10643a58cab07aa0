"""/openapi.json describes every route, its bodies and its errors, and what it describes is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from legato.http.accounts import PasswordBody
from legato.http.bodies import Body
from legato.http.chat import Approval, ChatMessage
from legato.http.conversations import ConversationChange, Feedback, Fork, NewConversation, Regenerate
from legato.http.oidc import IssuerBody
from legato.http.sign_in import SignInBody
from legato.http.transfer_bodies import ConversationDocument
from legato.http.widget import VisitorBody
from tests.client import Client
from tests.conftest import undescribed
from tests.server import ServerProcess

ROUTES = {
    "POST /chat/stream",
    "GET /chat/stream/{run_id}",
    "POST /chat/stream/{run_id}/stop",
    "POST /chat/stream/{run_id}/approvals/{call_id}",
    "POST /conversations",
    "GET /conversations",
    "GET /conversations/{conversation_id}",
    "PATCH /conversations/{conversation_id}",
    "DELETE /conversations/{conversation_id}",
    "POST /conversations/{conversation_id}/fork",
    "GET /conversations/{conversation_id}/messages",
    "POST /messages/{message_id}/regenerate",
    "PUT /messages/{message_id}/feedback",
    "GET /runs/{run_id}",
    "GET /conversations/{conversation_id}/export",
    "POST /conversations/import",
    "GET /search",
    "GET /models",
    "GET /me",
    "GET /sign-in",
    "POST /sign-in",
    "POST /sign-in/issuer",
    "GET /sign-in/issuer/callback",
    "POST /sign-out",
    "PUT /me/password",
    "GET /me/sessions",
    "DELETE /me/sessions",
    "DELETE /me/sessions/{session_id}",
    "POST /widget/visitors",
    "GET /admin/figures",
    "GET /admin/queue",
    "GET /admin/dead-letters",
    "GET /admin/dead-letters/{letter_id}",
    "POST /admin/dead-letters/{letter_id}/redrive",
    "DELETE /admin/dead-letters/{letter_id}",
    "GET /admin/steps",
    "GET /admin/runs",
    "GET /admin/sessions",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
}
PROBES = {"GET /health/live", "GET /health/ready"}
"""Open to everybody, and answered in their own form."""
BODIES: dict[str, type[Body]] = {
    "POST /chat/stream": ChatMessage,
    "POST /chat/stream/{run_id}/approvals/{call_id}": Approval,
    "POST /conversations": NewConversation,
    "PATCH /conversations/{conversation_id}": ConversationChange,
    "POST /conversations/{conversation_id}/fork": Fork,
    "POST /messages/{message_id}/regenerate": Regenerate,
    "PUT /messages/{message_id}/feedback": Feedback,
    "POST /conversations/import": ConversationDocument,
    "POST /sign-in": SignInBody,
    "POST /sign-in/issuer": IssuerBody,
    "PUT /me/password": PasswordBody,
    "POST /widget/visitors": VisitorBody,
}


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    with Client(server.port) as client:
        found: dict[str, Any] = client.get("/openapi.json")
        return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, route in document["paths"].items()
        for method, operation in route.items()
    }


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from nodes(each)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """All routes of this version, each with words, and no other."""
    assert document["openapi"].startswith("3.1")
    found = operations(document)
    assert set(found) >= ROUTES
    assert all(operation["summary"] and operation["description"] for operation in found.values())
    assert len({operation["operationId"] for operation in found.values()}) == len(found)


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    """Each $ref names something that is there, and everything that is there is named."""
    references = {str(node["$ref"]) for node in nodes(document) if isinstance(node.get("$ref"), str)}
    for reference in references:
        here: Any = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} == references


def test_every_path_parameter_is_described(document: dict[str, Any]) -> None:
    """Each `{name}` of a path is a required parameter with a description."""
    for route, operation in operations(document).items():
        given = {each["name"]: each for each in operation.get("parameters", []) if each["in"] == "path"}
        assert set(given) == set(re.findall(r"\{(\w+)\}", route)), route
        assert all(each["required"] for each in given.values())
        assert all(each["description"] for each in operation.get("parameters", [])), route


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    """All routes but probes name 401 and 403; errors are problem+json, on the stream's own routes an event too."""
    for route, operation in operations(document).items():
        errors = {int(status): each for status, each in operation["responses"].items() if int(status) >= 400}
        if route in PROBES:
            continue
        assert {401, 403, 503} <= set(errors), route
        for status, each in errors.items():
            stream = route in ("POST /chat/stream", "GET /chat/stream/{run_id}")
            kinds = {"application/problem+json", "text/event-stream"} if stream else {"application/problem+json"}
            assert set(each["content"]) == kinds, (route, status)
            assert each["description"]
            assert ("Retry-After" in each.get("headers", {})) == (status in (409, 429, 503))


def test_every_route_with_a_body_names_what_is_wrong_with_it(document: dict[str, Any]) -> None:
    """400, 413, 415 and 422 belong to every body, and each field of it is described."""
    for route, operation in operations(document).items():
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= set(operation["responses"]), route
            (kind,) = operation["requestBody"]["content"].items()
            assert kind[0] == "application/json"
            schema = kind[1]["schema"]
            assert schema["additionalProperties"] is False
            if route in BODIES:
                fields = {field.alias for field in BODIES[route].model_fields.values()}
                assert set(schema["properties"]) == fields
                optional = operation["requestBody"]["required"] is False
                # Something of it is wanted all the same.
                wanted = route.startswith("PATCH") or route == "POST /sign-in"
                assert optional == (not schema.get("required") and not wanted)


def test_a_method_that_is_not_there_is_answered_with_those_that_are(client: Client, document: dict[str, Any]) -> None:
    """405 names all methods of the path, also where several routes share it."""
    for path in document["paths"]:
        asked = re.sub(r"\{\w+\}", "x-1", path)
        sharing = [each for each in document["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), asked)]
        methods = {method.upper() for each in sharing for method in document["paths"][each]}
        answer = client.ask("OPTIONS", asked)
        assert (answer.status, set(answer.head["allow"].split(", "))) == (405, methods), path


def test_the_ids_headers_are_described(document: dict[str, Any]) -> None:
    """What a stream tells in its head."""
    for route in ("POST /chat/stream", "GET /chat/stream/{run_id}"):
        headers = operations(document)[route]["responses"]["200"]["headers"]
        assert {"X-Session-Id", "X-Conversation-Id", "X-Run-Id", "X-Message-Id"} <= set(headers)


def test_a_status_that_is_not_described_is_found(document: dict[str, Any]) -> None:
    """The check that runs over all answers of all tests can fail."""
    seen = {("GET", "/runs/r-1", 404), ("GET", "/runs/r-1", 418), ("GET", "/nothing", 404), ("PUT", "/runs/x", 405)}
    assert undescribed(document, seen) == [("GET", "/runs/r-1", 418)]
