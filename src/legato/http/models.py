"""The configured models."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from legato.http.chat import context
from legato.http.documents import problems
from legato.http.resources import Resource, respond

router = APIRouter()


class ModelOut(Resource):
    id: str = Field(description="The name to give as `model`.")
    provider: str = Field(description="What serves it: `openai`, `embedded`, `scripted`.")
    default: bool = Field(description="Whether it answers where no model is named.")
    context_window: int | None = Field(description="Tokens that input and output have together; null: unknown.")


class ModelList(Resource):
    models: list[ModelOut]
    default: str | None


@router.get("/models", tags=["models"], response_model=ModelList, responses=problems(401, 403, 503))
async def get_models(request: Request) -> Response:
    """List the configured models: those that answer by default in their order, then all others by name."""
    node, _ = context(request)
    names = list(dict.fromkeys([*node.models.order, *node.models.names]))
    default = node.models.order[0] if node.models.order else None
    found = [(name, node.models.find(name)) for name in names]
    models = [
        ModelOut(id=name, provider=model.kind, default=name == default, context_window=model.context_window)
        for name, model in found
    ]
    return respond(ModelList, ModelList(models=models, default=default))
