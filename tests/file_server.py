"""A web server for one file: with ranges and versions, and with the faults of real ones."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it serves at `address`, and what it was asked for.

    Attributes:
        content: the file.
        version: its ETag; None sends none.
        cuts: for each coming answer, the bytes after which the connection breaks off.
        status: of every answer, in place of the usual one.
        kind: Content-Type.
        asked: the Range of every request, None where there was none.
        sent: bytes of content that went out.
    """

    content: bytes
    version: str | None = '"1"'
    cuts: list[int] = field(default_factory=list)
    status: int | None = None
    kind: str = "application/octet-stream"
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.status is not None:
            handler.send_error(self.status)
            return
        same = handler.headers.get("If-Range") in (None, self.version)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and same else 0
        if start and start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(self.content) - start))
        if self.version is not None:
            handler.send_header("ETag", self.version)
        handler.end_headers()
        body = self.content[start:]
        if self.cuts:
            body = body[: self.cuts.pop(0)]
        with suppress(ConnectionError):  # whoever asked may hang up
            handler.wfile.write(body)
        self.sent += len(body)


@contextmanager
def serve(server: FileServer) -> Iterator[FileServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        server.address = f"http://127.0.0.1:{http.server_port}/weights.pth"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
