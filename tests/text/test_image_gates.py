from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import dockerfiles, image_gates, recipes
from pipeline_tools.text.image_gates import Dockerfile, Gates
from pipeline_tools.text.recipes import BuildSecret, Described, Layer

PIN = f"@sha256:{'a' * 64}"
TEXT = """\
# syntax=docker/dockerfile:1
ARG TAG=1.2
FROM --platform=$BUILDPLATFORM golang:${TAG} AS build
RUN <<EOF
FROM nobody:1
USER nobody
EOF
RUN go build \\
  # a comment in between

  -o /app
COPY --from=tools:3 /x /x
FROM base@sha256:%s
COPY --from=build /app /app
COPY --from=0 /app /app2
USER 7
LABEL a=1 team="x"
user root
""" % ("b" * 64)


def dockerfile(text: str = TEXT, target: str | None = None, **build_args: str) -> Dockerfile:
    return Dockerfile("web/Dockerfile", text, build_args, target)


def test_instructions_have_the_line_they_begin_on() -> None:
    found = [(item.line, item.word) for item in dockerfiles.instructions(TEXT)]
    assert found == [
        (2, "ARG"), (3, "FROM"), (4, "RUN"), (8, "RUN"), (12, "COPY"), (13, "FROM"), (14, "COPY"), (15, "COPY"),
        (16, "USER"), (17, "LABEL"), (18, "USER"),
    ]  # fmt: skip


def test_another_escape() -> None:
    (one, two) = dockerfiles.instructions("# escape=`\nRUN a `\n b\nCOPY x c:\\\n")
    assert (one.line, one.rest, two.word, two.rest) == (2, "a  b", "COPY", "x c:\\")


@pytest.mark.parametrize("space", [" ", "\t", "\v", "\f", "\r", " \t "])
def test_any_white_space_ends_the_word(space: str) -> None:
    (one,) = dockerfiles.instructions(f"{space}COPY{space}--from=a{space}b c\r\n")
    assert (one.line, one.word, one.rest) == (1, "COPY", f"--from=a{space}b c")


def test_a_word_goes_on_in_the_next_line() -> None:
    (one, two) = dockerfiles.instructions("CO\\ \t\n# no\nPY --fr\\\nom=a b c\nUSER 7")
    assert (one.line, one.word, one.rest, two.line) == (1, "COPY", "--from=a b c", 5)


def test_only_a_newline_ends_a_line() -> None:
    (one,) = dockerfiles.instructions("# a\u2028FROM b\x85FROM c\vFROM d\nFROM e\n")
    assert (one.line, one.rest) == (2, "e")


def test_a_here_document_of_a_trigger_holds_no_instructions() -> None:
    found = dockerfiles.instructions("FROM a\nONBUILD RUN <<EOF\r\nFROM b\r\nEOF\r\nUSER 7\n")
    assert [(item.line, item.word) for item in found] == [(1, "FROM"), (2, "ONBUILD"), (5, "USER")]


@given(st.text(alphabet=st.sampled_from("FROM AS a\\\n#<>E'$={}`:@\t-"), max_size=80))
def test_any_text_is_read(text: str) -> None:
    stages = dockerfiles.stages(text, {})
    assert all(1 <= pulled.line <= text.count("\n") + 1 for pulled in dockerfiles.pulled(stages))


def test_bases_that_are_not_pinned_are_named_by_line() -> None:
    refused = list(image_gates.of_dockerfile(Gates(base_pinned=True), dockerfile()))
    assert [error.message for error in refused] == [
        "web/Dockerfile:3: golang:1.2 is not pinned by digest (--base-pinned)",
        "web/Dockerfile:12: tools:3 is not pinned by digest (--base-pinned)",
    ]
    assert all(error.exit_code == 3 and error.hint for error in refused)
    assert not list(image_gates.of_dockerfile(Gates(), dockerfile()))


@pytest.mark.parametrize(
    ("text", "build_args", "pulls"),
    [
        ("ARG B=a:1\nFROM ${B}\n", {"B": f"a{PIN}"}, [f"a{PIN}"]),
        ("ARG A=x\nARG B=$A/y\nFROM $B\n", {}, ["x/y"]),
        ("FROM ${B:-c}\n", {}, ["c"]),
        ("FROM scratch\n", {}, []),
        ("FROM a AS Base\nFROM base\n", {}, ["a"]),
        ("FROM later\nFROM a AS later\n", {}, ["later", "a"]),
        ("FROM a\nRUN --mount=type=bind,from=tools:1,target=/t true\n", {}, ["a", "tools:1"]),
        ("FROM $UNKNOWN\n", {}, ["$UNKNOWN"]),
        ("FROM\ta\nCOPY\t--from=b\t/x /x\nRUN\t--mount=from=c\ttrue\n", {}, ["a", "b", "c"]),
        ("FROM a\nRUN uvx --from=ruff==0.6 ruff check\nRUN mailer --from=ops@x\n", {}, ["a"]),
        ("FROM a\nRUN --network=none x --mount=from=b\nRUN --from=c x\nADD --from=d /x /x\n", {}, ["a"]),
        ('FROM a\nCOPY "--from=b" /x /x\nCOPY /y --from=c /y\nCOPY -- --from=d /x\n', {}, ["a"]),
        ('FROM a\nRUN echo "--mount=from=b"\nRUN --mount=type=secret,id=x,env=from=c true\n', {}, ["a"]),
        ("FROM a\nCOPY --chown=7\u00a0--link  --from=b /x /x\n", {}, ["a", "b"]),
        ("FROM a\nCOPY --fr'om'=\"b\":\\1 /x /x\n", {}, ["a", "b:1"]),
        ("FROM a\nRUN --mount=type=cache,target=/c --mount='\"FROM=b\",target=/x' true\n", {}, ["a", "b"]),
        ("FROM a AS x\nONBUILD COPY --from=b /x /x\nFROM x\nFROM X\n", {}, ["a", "b"]),
        ("FROM a AS x\nONBUILD\trun --mount=from=b true\nFROM x AS y\n", {}, ["a", "b"]),
        ("FROM a AS x\nONBUILD COPY --from=y /x /x\nFROM b AS y\nFROM x\n", {}, ["a", "b"]),
        ("FROM a AS x\nONBUILD COPY --from=b /x /x\nFROM c\nCOPY --from=x /x /x\n", {}, ["a", "c"]),
    ],
)
def test_what_is_pulled(text: str, build_args: dict[str, str], pulls: list[str]) -> None:
    assert [pulled.image for pulled in dockerfiles.pulled(dockerfiles.stages(text, build_args))] == pulls


@pytest.mark.parametrize(
    ("target", "images"),
    [
        (None, ["a", "b", "c", "d"]),
        ("x", ["a", "b", "c"]),
        ("0", ["a"]),
        ("Y", ["a", "b"]),
        ("nowhere", ["a", "b", "c", "d"]),
        ("\u00b2", ["a", "b", "c", "d"]),
    ],
)
def test_a_stage_after_the_target_pulls_nothing(target: str | None, images: list[str]) -> None:
    """Docker's own builder builds all before it; of two stages of one name BuildKit takes the last, docker the first."""
    text = "FROM a AS x\nFROM b AS y\nFROM c AS x\nFROM d\n"
    refused = image_gates.of_dockerfile(Gates(base_pinned=True), dockerfile(text, target))
    assert [error.message.split()[1] for error in refused] == images


def test_root_is_refused_by_the_line_of_its_user() -> None:
    gates = Gates(non_root=True)
    image = Described("root", {}, ())
    (error,) = image_gates.of_image(gates, image, dockerfile())
    assert error.message == "web/Dockerfile:18: USER root: the image runs as root (--require-non-root)"
    (error,) = image_gates.of_image(gates, Described("", {}, ()), dockerfile(target="build"))
    assert "no USER in the stage built" in error.message


@pytest.mark.parametrize(("user", "is_root"), [("", True), ("0", True), ("0:7", True), ("root:x", True), ("00", True), ("7", False), ("rooty", False), ("7:0", False)])  # fmt: skip
def test_who_is_root(user: str, is_root: bool) -> None:
    assert (
        bool(list(image_gates.of_image(Gates(non_root=True), Described(user, {}, ()), dockerfile())))
        is is_root
    )


def test_labels_that_are_required() -> None:
    gates = Gates(labels=image_gates.required_labels(("team", "a=2", "b")))
    said = [
        error.message
        for error in image_gates.of_image(gates, Described("7", {"team": "x", "a": "1"}, ()), dockerfile())
    ]
    assert said == [
        "web/Dockerfile:17: label a is '1', not '2' (--require-label)",
        "web/Dockerfile: label b is missing (--require-label)",
    ]
    with pytest.raises(PipelineError):
        image_gates.required_labels(("=x",))


def test_an_image_too_large_names_its_largest_layer() -> None:
    image = Described("7", {}, (Layer(10, "FROM"), Layer(500, "RUN   apt-get\tinstall")))
    (error,) = image_gates.of_image(Gates(max_size=509), image, dockerfile())
    assert "510 bytes unpacked, more than 509" in error.message
    assert "500 by RUN apt-get install; 10 by FROM" in error.message
    assert not list(image_gates.of_image(Gates(max_size=510), image, dockerfile()))


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("500MB", 500_000_000), ("1.5GiB", 1610612736), ("2k", 2000)]
)
def test_sizes(text: str, size: int) -> None:
    assert image_gates.size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "5TB", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(PipelineError, match="--max-size takes bytes"):
        image_gates.size(text)


def test_where_secrets_come_from() -> None:
    assert recipes.source("a", "./token") == BuildSecret("a", path="./token")
    assert recipes.source("a", "env:TOKEN") == BuildSecret("a", variable="TOKEN")
    for name, word in (("a,b", "x"), ("a", "x,dst=/etc"), ("a", "")):
        with pytest.raises(PipelineError):
            recipes.source(name, word)
