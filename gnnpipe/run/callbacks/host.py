"""Calling the callbacks of a run, in the process of the caller."""

from __future__ import annotations

import copy
import json
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, StoppedError, shown
from gnnpipe.files.reading import Content
from gnnpipe.files.typed_json import json_text
from gnnpipe.records.folder import NOTHING_SAVED, RunFolder
from gnnpipe.run.callbacks.callback import Callback, RunInfo, Stop
from gnnpipe.run.callbacks.named import named
from gnnpipe.run.preparation import saved
from gnnpipe.run.reporter import Reporter

_T = TypeVar("_T")

# Callbacks that take this share of the epochs' own time, and this many seconds in all, are worth a warning.
NOTABLE_SHARE, NOTABLE_SECONDS = 0.2, 2.0


@dataclass(frozen=True)
class Answer:
    """Answer of the callbacks to an epoch."""

    stop: str = ""
    """Why the run is to end as finished; empty to go on."""
    signal: int = 0
    """Signal that told them to end; 0 if none did."""
    failure: str = ""
    """The exception that one of them raised, in a line; the run is saved and ends. Empty if none did."""
    warnings: tuple[str, ...] = ()
    """Lines for the user."""

    @property
    def ends(self) -> bool:
        """Whether the run is to end before it is finished."""
        return bool(self.signal or self.failure)


class Host:
    """Calls callbacks. They may raise what they like: the exception is kept until the ranks have saved.

    Args:
        callbacks: a user's.
        reporter: told of what can't be raised.
    """

    def __init__(self, callbacks: Sequence[Callback], reporter: Reporter) -> None:
        self._callbacks, self._reporter = list(callbacks), reporter
        self.error: BaseException | None = None
        """The exception of a callback that has ended the run."""
        self._failure = ""  # the same in a line
        self._folder: RunFolder | None = None  # of the run, once it has started
        self._interruptible = False
        self._seconds: defaultdict[str, float] = defaultdict(float)  # by callback, in all epochs
        self._epochs_seconds = 0.0  # that the epochs themselves took
        self._warned: set[str] = set()

    @classmethod
    def of(cls, callbacks: Sequence[Callback], config: RunConfig, reporter: Reporter) -> Host:
        """Callbacks of a call, and those that ``config.log`` names, unless there is one of the kind already.

        Raises:
            ConfigError: the package of a tracker is not installed.
        """
        kinds = {type(callback) for callback in callbacks}
        logs = [callback for callback in named(config.log) if type(callback) not in kinds]
        return cls([*callbacks, *logs], reporter)

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def start(self, info: RunInfo) -> None:
        """Tell all callbacks that training starts; what one raises is raised."""
        self._folder = RunFolder(info.folder)
        for callback in self._callbacks:
            returned: object = callback.on_train_start(copy.deepcopy(info))  # type: ignore[func-returns-value]
            if isinstance(returned, Stop):
                raise ConfigError(
                    f"callbacks: {type(callback).__name__}.on_train_start returned STOP; on_epoch_end and "
                    "on_evaluate can end a run"
                )

    def end(self, summary: Content) -> None:
        """Tell all callbacks that the run is finished; what one raises is raised, after all were told."""
        failure: Exception | None = None
        for callback in self._callbacks:
            try:
                callback.on_train_end(copy.deepcopy(summary))
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def around(self, training: Callable[[], _T]) -> _T:
        """Run a training. Raises what a callback has raised meanwhile, else what the training raises; the
        callbacks are told of either."""
        failure: BaseException | None = None
        try:
            result = training()
        except BaseException as error:
            failure = error
        # Raised outside of any except: to the user, the end of the ranks is no part of the story.
        if self.error is not None:
            kept = saved(self._folder) if self._folder else NOTHING_SAVED
            self._reporter.remark(f"{self._failure}; {kept}")
            failure = self.error
        if failure is not None:
            self._tell(failure)
            raise failure
        return result

    def _tell(self, error: BaseException) -> None:
        for callback in self._callbacks if self._folder else ():
            try:
                callback.on_exception(error)
            except Exception as another:
                name = type(callback).__name__
                self._reporter.remark(f"{name}.on_exception raised {_line(another)}", warning=True)

    def answer(self, message: bytes) -> bytes:
        """As `epoch`, for a message of rank 0: ``{"record": ..., "late": ...}``. Raises nothing."""
        content = json.loads(message)
        return json_text(self.epoch(content["record"], late=content["late"])).encode()

    def interrupt(self, number: int) -> None:
        """Interrupt the callback that runs, if any: called in its thread when a signal has arrived."""
        if self._interruptible:
            self._interruptible = False
            raise StoppedError(number)

    def epoch(self, record: Content, *, late: bool = False) -> Answer:
        """Tell all callbacks of an epoch, also where one of them raises; return what they say.

        Args:
            record: of the epoch.
            late: whether they know the epoch, and it was evaluated only since.
        """
        if not late:
            self._epochs_seconds += record["seconds"]
        names = [] if late else ["on_epoch_end"]
        if record.get("val") is not None:
            names.append("on_evaluate")
        said = []
        for callback in self._callbacks:
            for name in names:
                said.append(self._call(callback, name, copy.deepcopy(record)))
                if said[-1].ends:
                    break
        return Answer(
            "; ".join(dict.fromkeys(answer.stop for answer in said if answer.stop)),
            next((answer.signal for answer in said if answer.signal), 0),
            next((answer.failure for answer in said if answer.failure), ""),
            tuple(self._warnings()),
        )

    def _call(self, callback: Callback, name: str, record: Content) -> Answer:
        """Answer of one callback; an exception is kept if it is the first."""
        try:
            returned = self._timed(callback, getattr(callback, name), record)
            if isinstance(returned, Stop):
                return Answer(_reason(callback, returned))
            if returned is not None:
                raise _not_understood(callback, name, returned)
            return Answer()
        except KeyboardInterrupt as error:
            return Answer(signal=getattr(error, "number", signal.SIGINT))
        except BaseException as error:
            failure = f"{type(callback).__name__}.{name} raised {_line(error)}"
            if self.error is None:
                self.error, self._failure = error, failure
            return Answer(failure=failure)

    def _timed(self, callback: Callback, method: Callable[[Content], Any], record: Content) -> Any:
        """Result of a method, which a signal may interrupt."""
        began = time.monotonic()
        try:
            self._interruptible = True
            return method(record)
        finally:
            self._interruptible = False
            self._seconds[type(callback).__name__] += time.monotonic() - began

    def _warnings(self) -> Iterator[str]:
        """A line for each callback that takes a notable share of the time, once."""
        for name, seconds in self._seconds.items():
            share = seconds / max(self._epochs_seconds, 1e-9)
            if seconds > NOTABLE_SECONDS and share > NOTABLE_SHARE and name not in self._warned:
                self._warned.add(name)
                yield (
                    f"the callback {name} has taken {seconds:.1f} s, {share:.0%} of the time of the epochs "
                    "so far; all ranks wait for it, so let it do less, or do it in a thread"
                )


def checked(callbacks: object) -> list[Callback]:
    """The callbacks of a call; raises ConfigError, which names an object that is none."""
    expected = "expected objects of classes derived from gnnpipe.Callback"
    if not isinstance(callbacks, list | tuple):
        raise ConfigError(f"callbacks: '{shown(callbacks)}' can't be used; {expected}, in a list")
    for callback in callbacks:
        if isinstance(callback, type) and issubclass(callback, Callback):
            name = callback.__name__
            raise ConfigError(f"callbacks: {name} is a class; give an object of it, as in {name}()")
        if not isinstance(callback, Callback):
            kind = type(callback).__name__
            raise ConfigError(f"callbacks: '{shown(callback)}' ({kind}) can't be used; {expected}")
    return list(callbacks)


def _not_understood(callback: Callback, name: str, returned: object) -> ConfigError:
    hint = "; it is gnnpipe.STOP that ends a run" if returned in (True, "STOP", "stop") else ""
    return ConfigError(
        f"callbacks: {type(callback).__name__}.{name} returned '{shown(returned)}'; expected None or "
        f"gnnpipe.STOP{hint}"
    )


def _reason(callback: Callback, stop: Stop) -> str:
    name = type(callback).__name__
    return f"{name}: {stop.reason}" if stop.reason else f"{name} returned STOP"


def _line(error: BaseException) -> str:
    """An exception in a line."""
    return shown(f"{type(error).__name__}: {error}".removesuffix(": "))
