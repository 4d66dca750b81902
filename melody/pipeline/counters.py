"""Forward passes of networks, counted for one run, whatever other threads do with the same networks.

A network that was counted once keeps a hook, which asks what is being counted in its own thread: to put in a hook and
to take it away for each run would be a change of the module that other runs see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

Note = Callable[[int], None]
"""``note(rows)`` of a call of the network."""

_counting: ContextVar[tuple[tuple[nn.Module, Note], ...]] = ContextVar("counting", default=())
_hooked: WeakSet[nn.Module] = WeakSet()
_lock = Lock()


@contextmanager
def counting(network: nn.Module, note: Note) -> Iterator[None]:
    """Tell ``note`` of every forward call of a network that is made within, by this thread."""
    with _lock:
        if network not in _hooked:
            network.register_forward_pre_hook(_tell, with_kwargs=True)
            _hooked.add(network)
    before = _counting.set((*_counting.get(), (network, note)))
    try:
        yield
    finally:
        _counting.reset(before)


def _tell(network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    for counted, note in _counting.get():
        if counted is network:
            note(len(next(value for value in (*arguments, *named.values()) if isinstance(value, Tensor))))
