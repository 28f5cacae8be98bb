"""The hook that git runs: hand the push to the server, print its answer, exit by it.

Run as `python -IS hook_client.py pre-receive|post-receive` with nothing but the standard library, as this is part of
every push's time. The server's address and the key of this push come from the environment.
"""

import json
import os
import socket
import sys

QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")


def main(event: str) -> int:
    """Ask the server; 1 when it refuses."""
    options = [
        os.environ[f"GIT_PUSH_OPTION_{number}"]
        for number in range(int(os.environ.get("GIT_PUSH_OPTION_COUNT", "0")))
    ]
    body = json.dumps(
        {
            "key": os.environ["SANDBOX_PUSH"],
            "lines": sys.stdin.read(),
            "options": options,
            "environment": {name: os.environ[name] for name in QUARANTINE if name in os.environ},
        }
    ).encode()
    answer = ask(int(os.environ["SANDBOX_PORT"]), event, body)
    sys.stderr.write(answer["output"])
    return 0 if answer["allowed"] else 1


def ask(port: int, event: str, body: bytes) -> dict[str, str]:
    """POST a body to the server's own endpoint and return the JSON answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        head = f"POST /-/hooks/{event} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        _, _, content = stream.read().partition(b"\r\n\r\n")
    answer: dict[str, str] = json.loads(content)
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
