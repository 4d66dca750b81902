"""Progress for a log without a terminal: a line now and then, so that it never looks hung."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import TaskID

EVERY_S = 30.0


class PlainProgress:
    """Progress for a log: what, how many of how many, how long it took and takes, every half minute."""

    def __init__(self, console: Console, every_s: float = EVERY_S) -> None:
        self.console, self.every_s = console, every_s
        self.tasks: list[dict[str, Any]] = []
        self._begin = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def start(self) -> None:
        self._begin = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_task(self, description: str, total: float | None = None, **fields: Any) -> TaskID:
        own = {"description": description, "completed": 0, "total": total, "begin": time.monotonic(), "first": 0}
        self.tasks.append({**own, **fields})
        return TaskID(len(self.tasks) - 1)

    def update(self, task: TaskID, **values: Any) -> None:
        state = self.tasks[task]
        if values.get("total", state["total"]) != state["total"]:  # other work, which has a pace of its own
            state |= {"begin": time.monotonic(), "first": values.get("completed", 0)}
        state |= values

    def _tell(self) -> None:
        while not self._done.wait(self.every_s):
            if self.tasks:
                self.console.print(self.line(), soft_wrap=True, highlight=False)

    def line(self) -> str:
        """The line about the task that was begun last."""
        task, now = self.tasks[-1], time.monotonic()
        told = [f"{task['description']}: "]
        completed, total = task["completed"], task["total"]
        if total:
            told.append(f"{completed:g} of {total:g}, ")
        told.append(f"{clock(now - self._begin)} gone")
        if total and completed > task["first"]:
            pace = (now - task["begin"]) / (completed - task["first"])
            told.append(f", about {clock(pace * (total - completed))} left")
        if losses := task.get("losses"):
            told.append(f"; {losses}")
        return "".join(told)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some.

    >>> clock(75), clock(3_605)
    ('1:15', '1:00:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
