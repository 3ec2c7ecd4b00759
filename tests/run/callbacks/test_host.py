"""What callbacks are told, and what becomes of what they return and raise."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import gnnpipe
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, LostRankError, StoppedError, TrainingError
from gnnpipe.files.reading import Content
from gnnpipe.run.callbacks import host as module
from gnnpipe.run.callbacks.callback import STOP, Callback, RunInfo, Stop
from gnnpipe.run.callbacks.csv_table import CSV
from gnnpipe.run.callbacks.host import Answer, Host, checked
from tests.run.callbacks.made import Heard, begun, line, told


class Log(Callback):
    """Keeps all that it is told; does ``then`` with each record."""

    def __init__(self, name: str = "", events: list[str] | None = None, then: Any = None) -> None:
        self.name, self.events, self.then = name, [] if events is None else events, then

    def on_train_start(self, run: RunInfo) -> None:
        self.events.append(f"{self.name}start {run.first_epoch}")

    def on_epoch_end(self, record: Content) -> Stop | None:
        self.events.append(f"{self.name}epoch {record['epoch']}")
        return self.then(record) if self.then else None

    def on_evaluate(self, record: Content) -> Stop | None:
        self.events.append(f"{self.name}evaluate {record['epoch']}")
        return None

    def on_train_end(self, summary: Content) -> None:
        self.events.append(f"{self.name}end")

    def on_exception(self, error: BaseException) -> None:
        self.events.append(f"{self.name}{error!r}")


def raising(error: BaseException) -> Any:
    def then(record: Content) -> None:
        raise error

    return then


def test_the_order_of_events(tmp_path: Path) -> None:
    events: list[str] = []
    host = Host([Log("a ", events), Log("b ", events)], Heard())
    host.start(begun(tmp_path / "run", epochs=2))
    told(host, [line(2, val=0.5), line(3)])
    host.epoch(line(3, val=0.5), late=True)
    host.end({})
    expected = ["start 2", "epoch 2", "evaluate 2", "epoch 3", "evaluate 3", "end"]
    assert [event[2:] for event in events if event[0] == "a"] == expected
    assert [event[2:] for event in events if event[0] == "b"] == expected
    assert events[:2] == ["a start 2", "b start 2"]


def test_a_callback_may_do_with_a_record_what_it_likes(tmp_path: Path) -> None:
    seen = []

    def spoil(record: Content) -> None:
        record["bytes_sent"].clear()
        record["epoch"] = 99

    host = Host([Log(then=spoil), Log(then=lambda record: seen.append(record))], Heard())
    record = line(0, bytes_sent={"weights": 1})
    host.epoch(record)
    assert seen == [line(0, bytes_sent={"weights": 1})] == [record]


def test_the_base_class_needs_no_override(tmp_path: Path) -> None:
    host = Host([Callback()], Heard())
    host.start(begun(tmp_path / "run"))
    assert told(host, [line(0), line(1, val=0.5)]) == [Answer(), Answer()]
    host.end({})
    with pytest.raises(TrainingError):
        host.around(raising_call(TrainingError("x")))


def raising_call(error: BaseException) -> Any:
    def call() -> None:
        raise error

    return call


def test_stop_is_told_with_its_reason() -> None:
    class Enough(Callback):
        def on_evaluate(self, record: Content) -> Stop:
            return STOP("it is good enough")

    host = Host([Enough(), Log(then=lambda record: STOP)], Heard())
    assert host.epoch(line(0)) == Answer("Log returned STOP")
    assert host.epoch(line(1, val=0.9)) == Answer("Enough: it is good enough; Log returned STOP")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (True, r"Log.on_epoch_end returned 'True'; expected None or gnnpipe.STOP; it is gnnpipe.STOP"),
        ("STOP", r"returned 'STOP'; .*; it is gnnpipe.STOP that ends a run"),
        (3, r"returned '3'; expected None or gnnpipe.STOP$"),
        (Stop, r"returned '<class .*Stop'>'; expected None or gnnpipe.STOP$"),
    ],
)
def test_another_answer_is_refused(returned: object, message: str) -> None:
    host = Host([Log(then=lambda record: returned)], Heard())
    assert host.epoch(line(0)).failure.startswith("Log.on_epoch_end raised ConfigError: callbacks: Log.on")
    assert isinstance(host.error, ConfigError)
    with pytest.raises(ConfigError, match=message):
        host.around(lambda: None)


def test_what_is_raised_reaches_the_caller_as_it_is(tmp_path: Path) -> None:
    """Rather than the ranks' own end, after all callbacks were told of the epoch and of the error."""
    events: list[str] = []
    cause = KeyError("deep")
    mine = ValueError("mine")
    mine.__cause__ = cause
    reporter = Heard()
    host = Host([Log("a ", events, raising(mine)), Log("b ", events)], reporter)

    def training() -> None:
        host.start(begun(tmp_path / "run", epochs=1))
        assert host.epoch(line(1, val=0.5)) == Answer(failure="Log.on_epoch_end raised ValueError: mine")
        raise TrainingError("a rank says so")

    with pytest.raises(ValueError, match=r"^mine$") as raised:
        host.around(training)
    assert raised.value is mine
    assert raised.value.__cause__ is cause
    assert raised.value.__context__ is None  # nothing about ranks
    assert raised.traceback[-1].name == "then"
    told_of = ["a ValueError('mine')", "b ValueError('mine')"]
    assert events == ["a start 1", "b start 1", "a epoch 1", "b epoch 1", "b evaluate 1", *told_of]
    ((said, is_warning),) = reporter.lines
    assert said.startswith("Log.on_epoch_end raised ValueError: mine; saved in ")
    assert not is_warning


def test_the_first_exception_counts() -> None:
    first, second = ValueError("1"), ValueError("2")
    host = Host([Log(then=raising(first)), Log(then=raising(second))], Heard())
    assert host.epoch(line(0)).failure.endswith("ValueError: 1")
    assert host.error is first


def test_a_keyboard_interrupt_is_ctrl_c() -> None:
    host = Host([Log(then=raising(KeyboardInterrupt()))], Heard())
    assert host.epoch(line(0)) == Answer(signal=signal.SIGINT)
    assert host.error is None
    host = Host([Log(then=raising(StoppedError(signal.SIGTERM)))], Heard())
    assert host.epoch(line(0)) == Answer(signal=signal.SIGTERM)


def test_a_signal_interrupts_a_callback_and_nothing_else() -> None:
    reached = []

    def interrupted(record: Content) -> None:
        host.interrupt(signal.SIGTERM)
        reached.append(record)

    host = Host([Log(then=interrupted), Log(then=lambda record: reached.append("second"))], Heard())
    host.interrupt(signal.SIGTERM)  # no callback runs
    assert host.epoch(line(0)) == Answer(signal=signal.SIGTERM)
    assert reached == ["second"]
    host.interrupt(signal.SIGTERM)


def test_sys_exit_ends_the_run_and_then_the_program() -> None:
    host = Host([Log(then=raising(SystemExit(3)))], Heard())
    assert host.epoch(line(0)).failure == "Log.on_epoch_end raised SystemExit: 3"
    with pytest.raises(SystemExit):
        host.around(lambda: None)


def test_callbacks_are_told_how_a_run_failed(tmp_path: Path) -> None:
    log, reporter = Log(), Heard()

    class Bad(Callback):
        def on_exception(self, error: BaseException) -> None:
            raise OSError("disk")

    host = Host([Bad(), log], reporter)
    with pytest.raises(LostRankError):
        host.around(raising_call(LostRankError("before training starts")))
    assert log.events == []
    host.start(begun(tmp_path / "run"))
    with pytest.raises(LostRankError, match=r"^gone$"):
        host.around(raising_call(LostRankError("gone")))
    assert log.events == ["start 0", "LostRankError('gone')"]
    assert reporter.lines == [("Bad.on_exception raised OSError: disk", True)]


def test_the_end_is_told_to_all(tmp_path: Path) -> None:
    class Bad(Callback):
        def on_train_end(self, summary: Content) -> None:
            raise OSError("disk")

    log = Log()
    with pytest.raises(OSError, match="disk"):
        Host([Bad(), log], Heard()).end({"metric": "accuracy"})
    assert log.events == ["end"]


def test_messages_are_json() -> None:
    host = Host([Log(then=lambda record: STOP("ü"))], Heard())
    answer = host.answer(json.dumps({"record": line(0), "late": False}).encode())
    assert json.loads(answer)["stop"] == "Log: ü"


def test_a_slow_callback_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])

    class Slow(Callback):
        def on_epoch_end(self, record: Content) -> None:
            clock[0] += 0.5

    host = Host([Slow(), Callback()], Heard())
    warnings = [answer.warnings for answer in told(host, [line(epoch) for epoch in range(12)])]
    assert [len(lines) for lines in warnings] == [0] * 4 + [1] + [0] * 7  # at 2.5 s of 5 s
    assert warnings[4][0].startswith(
        "the callback Slow has taken 2.5 s, 50% of the time of the epochs so far"
    )
    # as slow, beside epochs that take longer
    slow = [line(epoch, seconds=3.0) for epoch in range(12)]
    assert not any(answer.warnings for answer in told(Host([Slow()], Heard()), slow))


def test_tiny_epochs_are_no_reason_for_a_warning() -> None:
    host = Host([Log(then=lambda record: time.sleep(0.002))], Heard())
    assert told(host, [line(epoch, seconds=0.001) for epoch in range(3)]) == [Answer()] * 3


class Own(Callback):
    pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [print],
            r"callbacks: '<built-in function print>' \(builtin_function_or_method\) can't be used; exp",
        ),
        ([Own], r"callbacks: Own is a class; give an object of it, as in Own\(\)"),
        ([Own(), None], r"callbacks: 'None' \(NoneType\) can't be used; expected objects of classes derived"),
        (Own(), r"callbacks: '<.*Own object at .*>' can't be used; expected objects .*, in a list"),
        ("csv", r"callbacks: 'csv' can't be used"),
    ],
)
def test_what_is_no_callback_is_named(given: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(given)
    with pytest.raises(ConfigError, match=message):
        gnnpipe.train(callbacks=given, out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        gnnpipe.resume(tmp_path / "run", callbacks=given)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_named_log_gives_way_to_a_callback_of_its_kind(tmp_path: Path) -> None:
    config = RunConfig(log=("csv",))
    mine = CSV(tmp_path / "mine.csv")
    for callbacks in ([], [mine]):
        host = Host.of(callbacks, config, Heard())
        host.start(begun(tmp_path / f"run{len(callbacks)}"))
    assert (tmp_path / "mine.csv").exists()
    assert (tmp_path / "run0" / "logs" / "records.csv").exists()
    assert not (tmp_path / "run1" / "logs").exists()
    assert not Host.of([], RunConfig(), Heard())


def test_a_stop_before_the_first_epoch_is_refused(tmp_path: Path) -> None:
    class Early(Callback):
        def on_train_start(self, run: RunInfo) -> Any:
            return STOP

    with pytest.raises(ConfigError, match=r"Early.on_train_start returned STOP; on_epoch_end and on"):
        Host([Early()], Heard()).start(begun(tmp_path / "run"))
