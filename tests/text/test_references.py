"""Names of images, branches, folders and hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import references
from tests.world import DIGEST


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("europe-west1-docker.pkg.dev/p/r/app", "europe-west1-docker.pkg.dev", "p/r/app"),
        ("localhost:5000/app", "localhost:5000", "app"),
        ("[::1]:5000/app", "[::1]:5000", "app"),
        ("r.example.com/a__b/c-d.e", "r.example.com", "a__b/c-d.e"),
    ],
)
def test_repository(text: str, host: str, name: str) -> None:
    found = references.repository(text)
    assert (found.host, found.name, str(found)) == (host, name, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "a/b",
        "r.example.com/App",
        "r.example.com/a:1",
        "r.example.com/a@b",
        "r.example.com/",
        "r.example.com/a//b",
        "https://r.example.com/a",
        "r.example.com/a b",
        "r.example.com/../a",
        "-r.example.com/a",
    ],
)
def test_no_repository(text: str) -> None:
    with pytest.raises(PipelineError):
        references.repository(text)


def test_plain_http_only_on_loopback() -> None:
    assert references.repository("127.0.0.1:5000/a").url == "http://127.0.0.1:5000"
    assert references.repository("localhost:5000/a").url == "http://localhost:5000"
    assert references.repository("127.0.0.1.example.com/a").url == "https://127.0.0.1.example.com"


@pytest.mark.parametrize(
    "text", ["a", "r.example.com:5000/a/b:1.0", f"a@{DIGEST}", f"r.example.com/a:1.0@{DIGEST}"]
)
def test_reference_round_trip(text: str) -> None:
    assert str(references.reference(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a@", "a@sha256:12", "a:$(id)", "a b", "a:1:2", "a;id", "a:" + "1" * 129]
)
def test_no_reference(text: str) -> None:
    with pytest.raises(PipelineError):
        references.reference(text)


@given(st.text(max_size=30))
def test_a_branch_never_is_an_option_or_leaves_its_folder(text: str) -> None:
    try:
        name = references.branch(text)
    except PipelineError:
        return
    assert not name.startswith(("-", "/"))
    assert ".." not in name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-x",
        "a..b",
        "a b",
        "a:b",
        "a^",
        "a.lock",
        "/a",
        "a/",
        "a//b",
        "@",
        "a@{b",
        "a\\b",
        "a\x7f",
        ".a",
        "a/.b",
        "a.",
    ],
)
def test_no_branch(text: str) -> None:
    with pytest.raises(PipelineError):
        references.branch(text)


@pytest.mark.parametrize("text", ["/a", "..", "a/../../b", "", ".", "a\0b"])
def test_no_folder(text: str) -> None:
    with pytest.raises(PipelineError):
        references.folder(text)


def test_folder_is_normal() -> None:
    assert references.folder("./overlays//dev/") == "overlays/dev"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://GitLab.example.com/a/b.git", "https://gitlab.example.com"),
        ("https://user:pw@gitlab.example.com:8443/a", "https://gitlab.example.com:8443"),
        ("https://gitlab.example.com:443/a", "https://gitlab.example.com"),
        ("http://gitlab.example.com:80", "http://gitlab.example.com"),
        ("http://gitlab.example.com:443", "http://gitlab.example.com:443"),
        ("ssh://git@gitlab.example.com:2222/a/b.git", "gitlab.example.com:2222"),
        ("git@gitlab.example.com:a/b.git", "gitlab.example.com"),
        ("/srv/git/env.git", ""),
        ("../env", ""),
    ],
)
def test_origin(url: str, expected: str) -> None:
    assert references.origin(url) == expected


def test_userless() -> None:
    assert references.userless("https://ci:p%40ss@h.example.com/a.git") == (
        "https://h.example.com/a.git",
        "ci",
        "p@ss",
    )
    assert references.userless("git@h:a") == ("git@h:a", "", "")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://h/a/b/c.git", "a/b/c"),
        ("git@h:a/b.git", "a/b"),
        ("ssh://git@h:22/a/b.git", "a/b"),
        ("/srv/env.git", "srv/env"),
    ],
)
def test_project_path(url: str, path: str) -> None:
    assert references.project_path(url) == path
