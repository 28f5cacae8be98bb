"""Remote repositories: what no stand-in that behaves can show."""

import os
import socket
import time

import pytest

from pipeline_tools.adapters.git import Remote
from pipeline_tools.errors import Unavailable


def test_a_silent_server_is_given_up() -> None:
    """It takes the connection and the request, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/platform/env.git"
        began = time.monotonic()
        with Remote(url, dict(os.environ), silence=1) as remote, pytest.raises(Unavailable) as caught:
            remote.head()
        assert time.monotonic() - began < 15
        assert url in caught.value.message
