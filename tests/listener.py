"""A server that notes who asks for what, and answers as it is told."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Seen:
    """A request: `text` is all of it, from the method to the body."""

    method: str
    path: str
    headers: dict[str, str]
    text: str


@dataclass
class Listener:
    """The server on 127.0.0.1; `seen` is in the order of arrival."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def other_url(self) -> str:
        """The same server under the name of another host."""
        return f"http://localhost:{self.port}"

    def heard(self, secret: str) -> bool:
        """Whether any request had `secret` in it."""
        return any(secret in request.text for request in self.seen)


def reply(status: int = 404, body: bytes = b"", **headers: str) -> Callable[[Seen], Reply]:
    """Always the same answer; `WWW_Authenticate` is the header WWW-Authenticate."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _seen: (status, named, body)


@contextlib.contextmanager
def listening(answer: Callable[[Seen], Reply] | None = None) -> Iterator[Listener]:
    """Listen until the block ends; without `answer` there is nothing to be found."""
    made = Listener()
    say = answer or reply()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            text = f"{self.command} {self.path}\n{self.headers}\n{body}"
            seen = Seen(self.command, self.path, dict(self.headers.items()), text)
            made.seen.append(seen)
            status, headers, content = say(seen)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _serve  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Requests are noted, not printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
