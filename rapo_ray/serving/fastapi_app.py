"""The FastAPI application of the endpoint: its errors and its guard, without CORS and documentation pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rapo_ray.config.serving import ServeConfig
from rapo_ray.serving.guard import Guard
from rapo_ray.serving.problems import Problem

OPENAPI_ONLY: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": "/openapi.json"}


def make_app(config: ServeConfig) -> FastAPI:
    """The FastAPI application, guarded, with every error as a Problem."""
    app = FastAPI(title="rapo_ray", version="1", **OPENAPI_ONLY)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Problem, _response)
    app.add_middleware(Guard, api_keys=config.api_keys, limits=config.limits)
    return app


async def _invalid(request: Request, error: Any) -> Response:
    return await _response(request, invalid_request(error.errors()))


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The first of pydantic's errors as a problem that names the field, without its value."""
    first = errors[0] if errors else {"loc": (), "msg": "invalid"}
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    known = first.get("type") != "extra_forbidden"
    reason = str(first["msg"]).removeprefix("Value error, ") if known else "this endpoint does not take this field"
    return Problem(400, f"{field[:200] or 'body'}: {reason[:200]}")


async def _refused(request: Request, error: Any) -> Response:
    words = {404: "no such path", 405: "the path does not support this method"}
    problem = Problem(error.status_code, words.get(error.status_code, "the request is not valid"))
    return await _response(request, problem)


async def _response(request: Request, problem: Any) -> Response:
    request_id = request.scope["state"]["request_id"]
    headers = {name.decode(): value.decode() for name, value in problem.headers()}
    return Response(problem.body(request_id), problem.status, headers)
