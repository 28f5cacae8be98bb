"""Serve the stand-in until SIGTERM or the end of standard input.

Prints one JSON document: the address, and for each project its id, its address and a Maintainer's token.
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from sandbox.gitlab import Access, Gitlab


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, _stop)
    with Gitlab.start(options.directory, step=options.step) as gitlab:
        made = {path: _project(gitlab, path, source) for path, source in map(_split, options.project)}
        print(json.dumps({"url": gitlab.url, "projects": made}), flush=True)
        sys.stdin.read()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.gitlab", description=__doc__)
    parser.add_argument(
        "--directory", type=Path, required=True, help="where repositories are kept; must be new or empty"
    )
    parser.add_argument(
        "--project",
        action="append",
        default=[],
        metavar="PATH[=SOURCE]",
        help="create a project from a directory's files",
    )
    parser.add_argument("--step", type=float, default=1.0, help="seconds that each state of a pipeline lasts")
    return parser.parse_args()


def _split(text: str) -> tuple[str, Path | None]:
    path, _, source = text.partition("=")
    return path, Path(source) if source else None


def _project(gitlab: Gitlab, path: str, source: Path | None) -> dict[str, object]:
    project = gitlab.create_project(path, source=source)
    token = gitlab.create_token(project, "demo", access_level=Access.MAINTAINER)
    return {"id": project.id, "http_url": project.http_url, "token": token}


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
