"""Serve the page of `skastro label` to the browsers of this machine, and to nobody else."""

from __future__ import annotations

import json
import math
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from skastro.pages.label_page import content_policy, label_page
from skastro.pages.label_session import LabelSession
from skastro.utils.files import first_line
from skastro.utils.packages import import_optional

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_ADDRESS = "127.0.0.1"
_MAX_BODY = 100_000  # bytes of a request
_MIN_SIZE, _MAX_SIZE = 16, 1600  # pixels of a picture
_MAX_TEXT = 500  # characters of a comment or a name
_NEEDED = {"extra": "label", "needed_by": "skastro label"}
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "default-src 'none'",  # the page has a wider one
}


def check_packages() -> None:
    """Refuse to begin without the packages that the page needs, by an ImportError.

    Examples
    --------
    >>> check_packages()
    """
    for name in ("starlette", "uvicorn", "jinja2"):
        import_optional(name, **_NEEDED)


def open_socket(port: int = 0) -> socket.socket:
    """Open a port of this machine, which no other machine can reach; 0 takes a free one.

    Examples
    --------
    >>> with open_socket() as listener:
    ...     listener.getsockname()[0]
    '127.0.0.1'
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_ADDRESS, port))
    except OSError as error:
        listener.close()
        raise ValueError(
            f"port {port} cannot be used ({error.strerror or error}): name another one, or leave "
            "--port out."
        ) from error
    listener.listen(128)
    return listener


def serve(session: LabelSession, listener: socket.socket, token: str) -> Any:
    """Return a uvicorn server for `open_socket`; its ``run(sockets=[listener])`` serves."""
    uvicorn = import_optional("uvicorn", **_NEEDED)
    app = make_app(session, token, port=listener.getsockname()[1])
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=1, h11_max_incomplete_event_size=_MAX_BODY, ws="none",
    )  # fmt: skip
    return uvicorn.Server(config)


def make_app(session: LabelSession, token: str, *, port: int) -> Starlette:
    """Make the web application of a session.

    A request is answered if it carries the token (``X-Token``, or ``?token=`` for the page and
    pictures), if its Host is this machine at this port (a page of another name, whose address was
    made to point here, has another one), and if its Origin, if it has any, is this page.

    Examples
    --------
    >>> [route.path for route in make_app(None, "secret", port=8000).routes][:3]
    ['/', '/api/state', '/api/next']
    """
    applications = import_optional("starlette.applications", **_NEEDED)
    middleware = import_optional("starlette.middleware", **_NEEDED)
    route = import_optional("starlette.routing", **_NEEDED).Route
    pages = _Pages(session)
    reads = {
        "/": pages.page, "/api/state": pages.state, "/api/next": pages.next,
        "/api/doubtful": pages.doubtful, "/api/grid": pages.grid, "/api/ahead": pages.ahead,
        "/api/similar/{row:int}": pages.similar,
        "/api/stamp/{row:int}.png": pages.stamp,
    }  # fmt: skip
    writes = {
        "/api/answer": pages.answer, "/api/grid": pages.answer_grid, "/api/class": pages.add_class,
        "/api/undo": pages.undo,
    }  # fmt: skip
    return applications.Starlette(
        routes=[
            *(route(path, _reading(call), methods=["GET"]) for path, call in reads.items()),
            *(route(path, _writing(call), methods=["POST"]) for path, call in writes.items()),
        ],
        middleware=[middleware.Middleware(_Guard, token=token, port=port)],
        exception_handlers=dict.fromkeys((404, 405), _find_nothing),
    )


class _Pages:
    """Answer requests: each method gets the query or the content of one, and returns its reply."""

    def __init__(self, session: LabelSession) -> None:
        self._session = session

    def page(self, _: Any) -> Response:
        nonce = secrets.token_urlsafe(16)
        headers = {"content-security-policy": content_policy(nonce)}
        html = label_page(self._session.title, nonce=nonce)
        return _responses().HTMLResponse(html, headers=headers)

    def state(self, _: Any) -> dict[str, Any]:
        return self._session.state()

    def next(self, query: Any) -> dict[str, Any]:
        question = self._session.next_question(_text(query, "tab"))
        return {"question": question, "state": self._session.state()}

    def doubtful(self, query: Any) -> dict[str, Any]:
        question = self._session.doubtful_question(_text(query, "tab"))
        return {"question": question, "state": self._session.state()}

    def grid(self, query: Any) -> dict[str, Any]:
        name = _text(query, "class")
        return {"class": name, "cells": self._session.grid(_text(query, "tab"), name)}

    def similar(self, query: Any) -> dict[str, Any]:
        return {"cells": self._session.similar(_text(query, "tab"), query["row"])}

    def ahead(self, query: Any) -> dict[str, Any]:
        return {"rows": self._session.rows_ahead(_text(query, "tab"))}

    def stamp(self, query: Any) -> Response:
        names = tuple(filter(None, query.get("bands", "").split(",")))
        size, stretch = _number(query, "size", 320), _number(query, "stretch", 0.5)
        size = round(min(max(size, _MIN_SIZE), _MAX_SIZE))
        picture = self._session.picture(query["row"], size, min(max(stretch, 0.0), 1.0), names)
        return _responses().Response(picture, media_type="image/png")

    def answer(self, content: Any) -> dict[str, Any]:
        tab = _text(content, "tab")
        self._session.answer(
            tab, content.get("row"), _text(content, "how"), _text(content, "kind"),
            content.get("class"), seconds=_number(content, "seconds", 0.0),
            comment=_text(content, "comment"), who=_text(content, "who"),
        )  # fmt: skip
        return self.next(content)

    def answer_grid(self, content: Any) -> dict[str, Any]:
        rows, others = content.get("rows"), content.get("not", [])
        if not isinstance(rows, list) or not isinstance(others, list):
            raise ValueError("rows and not must be lists of row numbers.")  # noqa: TRY004 - 400
        self._session.answer_grid(
            _text(content, "tab"), _text(content, "class"), rows, others,
            seconds=_number(content, "seconds", 0.0), who=_text(content, "who"),
        )  # fmt: skip
        return self._session.state()

    def add_class(self, content: Any) -> dict[str, Any]:
        self._session.add_class(_text(content, "name"))
        return self._session.state()

    def undo(self, content: Any) -> dict[str, Any]:
        undone = self._session.undo(_text(content, "tab"), who=_text(content, "who"))
        return {**self.next(content), "undone": undone}


class _Guard:
    """Refuse requests that do not come from the page itself; add the headers of security."""

    def __init__(self, app: Any, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in (_ADDRESS, "localhost")}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.encode(), value.encode())
                    for name, value in _HEADERS.items()
                    if name.encode() not in sent
                ]
            await send(message)

        reason = self._find_reason(scope)
        if reason:
            await _refuse(HTTPStatus.FORBIDDEN, reason)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _find_reason(self, scope: Any) -> str | None:
        """Return why a request is refused, None if it is not."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "the request is for another host: open the address that `skastro label` prints."
        own = {b"http://" + host for host in self._hosts}
        if any(origin.lower() not in own for origin in origins):
            return "the request comes from another page: open the address that is printed."
        sites = headers.get(b"sec-fetch-site", [])
        if scope["path"] != "/" and any(s not in (b"same-origin", b"none") for s in sites):
            return "the request comes from another page: open the address that is printed."
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = headers.get(b"x-token", []) or [t.encode() for t in query.get("token", [])]
        if len(given) != 1 or not secrets.compare_digest(given[0], self._token):
            return "the token is missing or wrong: open the address that `skastro label` prints."
        return None


def _reading(call: Callable[[Any], Any]) -> Callable[[Request], Response]:
    """Make an endpoint of a method that gets the query; it runs in a thread of its own."""

    def answer(request: Request) -> Response:
        return _reply(call, {**request.query_params, **request.path_params})

    return answer


def _writing(call: Callable[[Any], Any]) -> Callable[[Request], Any]:
    """Make an endpoint of a method that gets the JSON of a request."""
    run_in_threadpool = import_optional("starlette.concurrency", **_NEEDED).run_in_threadpool

    async def answer(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request must be JSON.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                text = f"the request is larger than {_MAX_BODY:,} bytes: send less at once."
                return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            return _refuse(HTTPStatus.BAD_REQUEST, "the request must be a JSON object.")
        reply: Response = await run_in_threadpool(_reply, call, content)
        return reply

    return answer


def _reply(call: Callable[[Any], Any], given: Any) -> Response:
    """Return what a method answers, or its error as one sentence."""
    try:
        found = call(given)
    except (ValueError, IndexError) as error:
        return _refuse(HTTPStatus.BAD_REQUEST, str(error))
    except OSError as error:
        return _refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
    except Exception as error:  # noqa: BLE001 - the page shows it, and the person can go on
        kind = type(error).__name__
        return _refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{kind}: {first_line(error)}.")
    response: Response = _responses().JSONResponse(found) if isinstance(found, dict) else found
    return response


def _refuse(status: int, text: str) -> Response:
    response: Response = _responses().JSONResponse({"error": text}, status_code=int(status))
    return response


def _find_nothing(_: Request, __: Exception) -> Response:
    return _refuse(HTTPStatus.NOT_FOUND, "there is nothing at this address.")


def _responses() -> Any:
    return import_optional("starlette.responses", **_NEEDED)


def _text(given: Any, name: str) -> str:
    """Return a value of a request as text, "" if it has none."""
    value = given.get(name) or ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"{name} must be text of at most {_MAX_TEXT} letters.")
    return value


def _number(given: Any, name: str, default: float) -> float:
    try:
        value = float(given.get(name, default))
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}={given.get(name)!r} must be a number.")
    return value
