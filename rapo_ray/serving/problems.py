"""Errors in OpenAI's format: our own message, a type and a request id, without any internals."""

import json
from dataclasses import dataclass

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


@dataclass(slots=True)
class Problem(Exception):
    """An error response."""

    status: int
    message: str
    retry_after: float | None = None  # seconds

    def body(self, request_id: str) -> bytes:
        """The response body as JSON."""
        return json.dumps({"error": self.fields(request_id)}).encode()

    def fields(self, request_id: str) -> dict[str, str | int | None]:
        """The fields of the `error` object."""
        kind = KINDS.get(self.status, "server_error")
        return {
            "message": f"{self.message} (request {request_id})",
            "type": kind,
            "param": None,
            "code": self.status,
            "request_id": request_id,
        }

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers; Serve's proxy adds the request id."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(max(1, round(self.retry_after + 0.5))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers
