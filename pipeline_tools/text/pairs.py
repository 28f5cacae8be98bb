"""`KEY=VALUE` words."""

from pipeline_tools.errors import PipelineError


def parse(option: str, values: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping; `option` is where they come from, for the message.

    Raises:
        PipelineError: a word without `=` or with an empty key. The message does not show the value.
    """
    split = [value.partition("=") for value in values]
    for key, equals, _ in split:
        if not equals or not key:
            raise PipelineError(f"{option} takes KEY=VALUE, not {key!r}", hint="quote it as one word")
    return {key: value for key, _, value in split}
