"""A site of Jira that says what a test wants, and keeps what it was asked."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    method: str
    path: str
    """Behind ``/rest/api/2/``, without the query."""
    headers: Mapping[str, str]
    body: Any


class OddSite:
    """For each path, or method and path, one answer: content, or a pair of status and content. ``in_turn``: a list is a
    list of answers, whose last one is given for ever.
    """

    def __init__(
        self, answers: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, in_turn: bool = False
    ) -> None:
        self.asked: list[Asked] = []
        self._answers = dict(answers)
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._in_turn = in_turn
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def paths(self) -> list[str]:
        """Of all requests, in their order."""
        return [each.path for each in self.asked]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, asked: Asked) -> tuple[int, Any]:
        named = f"{asked.method} {asked.path}"
        answer = self._answers[named if named in self._answers else asked.path]
        if self._in_turn and isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer if isinstance(answer, tuple) else (200, answer)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                path = self.path.partition("?")[0].partition("/rest/api/2/")[2]
                asked = Asked(self.command, path, dict(self.headers.items()), json.loads(body or b"null"))
                site.asked.append(asked)
                status, content = site._answer(asked)
                told = json.dumps(content).encode()
                self.send_response(status)
                for name, text in {**site._headers, "Content-Length": str(len(told))}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(told)

            do_GET = do_POST = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        return Handler
