"""A web server on loopback with files of one's own and the faults of real ones."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Page:
    """What the server answers to one path."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    promised: int | None = None
    """The length that the header tells; None: the body's own, -1: none at all."""
    location: str | None = None
    silent_s: float = 0.0


@dataclass
class FileServer:
    """Answers GET with the pages, 404 for all else; a whole URL as the path means it is used as a proxy."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        outer = self
        self.stopping = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                page = outer.pages.get(self.path, Page(b"no such file", status=404))
                outer.stopping.wait(page.silent_s)
                self.send_response(page.status)
                self.send_header("Content-Type", page.content_type)
                if page.location:
                    self.send_header("Location", page.location)
                if page.promised != -1:
                    self.send_header("Content-Length", str(page.promised or len(page.body)))
                self.end_headers()
                self.wfile.write(page.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"
