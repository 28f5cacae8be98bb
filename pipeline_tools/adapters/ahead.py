"""Work that is begun before anybody asks for it."""

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """`work`, in a thread of its own. What it raises is raised where its result is asked for."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done: list[T] = []
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._done.append(self._work())
        except BaseException as error:  # noqa: BLE001 (whoever asks shall have it, whatever it is)
            self._failure = error

    def join(self) -> None:
        """Wait for its end, however it ends."""
        self._thread.join()

    def result(self) -> T:
        """Wait for its end.

        Raises:
            BaseException: what it raised.
        """
        self.join()
        if self._failure:
            raise self._failure
        return self._done[0]
