"""`KEY=VALUE` words."""

from collections.abc import Iterable

from pipeline_tools.errors import PipelineError


def parse(option: str, words: Iterable[str]) -> dict[str, str]:
    """The words as a mapping; `option` is where they come from, for the message.

    Raises:
        PipelineError: a word without `=` or with an empty key.
    """
    split = [word.partition("=") for word in words]
    for key, equals, _ in split:
        if not equals or not key:
            raise PipelineError(f"{option} takes KEY=VALUE, not {key!r}", hint="quote it as one word")
    return {key: value for key, _, value in split}
