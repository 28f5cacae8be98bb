"""The failures a person is meant to read, each with its exit code (docs/reference/exit-codes.md)."""

import signal


class PipelineError(Exception):
    """An expected failure: one line that says what is wrong, and a hint that says how to mend it.

    `exit_code` is what the process ends with, `code` the word for it in the JSON envelope. `done` is the outcome
    of what a step did before it failed, such as the pipeline that it started and that ended badly.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, hint: str = "", done: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.done = done


class Refused(PipelineError):  # noqa: N818 (read as a sentence: raise Refused(...))
    """A rule says no: downgrade, tag policy, immutable tag with other content, push rule."""

    exit_code = 3
    code = "refused"


class Denied(PipelineError):  # noqa: N818 (likewise)
    """Not allowed: authentication, rights, a protected branch. The hint names the setting to change."""

    exit_code = 4
    code = "denied"


class Unavailable(PipelineError):  # noqa: N818 (likewise)
    """Worth retrying as it is: unreachable, overloaded, or not finished in time.

    `retry_after` are the seconds that the other side asks to wait before the next try.
    """

    exit_code = 5
    code = "unavailable"

    def __init__(
        self, message: str, *, hint: str = "", done: object = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint, done=done)
        self.retry_after = retry_after


class Differs(PipelineError):  # noqa: N818 (likewise)
    """What is there is not what should be, or has findings. Nothing failed; a person decides."""

    exit_code = 6
    code = "differs"


class Interrupted(PipelineError):  # noqa: N818 (likewise)
    """A signal ended the child that did the work; `done` says how far it came. The exit code is a shell's: 128 + n."""

    def __init__(self, number: int, message: str, *, hint: str = "", done: object = None) -> None:
        super().__init__(message, hint=hint, done=done)
        self.exit_code = 128 + number
        self.code = "interrupted" if number == signal.SIGINT else "terminated"


class Stale(Exception):  # noqa: N818 (a signal to the driver, which plans again; no person reads it)
    """What the plan was made from has changed: a compare-and-swap was lost."""
