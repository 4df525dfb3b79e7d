"""A property that is read from disk when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class loaded_once(Generic[T]):  # noqa: N801 - a decorator, as functools.cached_property is
    """As ``functools.cached_property``, and threads that ask at once wait for the first.

    Since Python 3.12 each of them would load a copy of its own, say of all tokens.
    """

    def __init__(self, load: Callable[[Any], T]) -> None:
        self.__doc__ = load.__doc__
        self._load = load

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        held = instance.__dict__  # where the value is found from then on, before this method
        name = self._load.__name__
        guard = held.setdefault(f"{name} guard", threading.RLock())  # one step: no thread between
        with guard:
            if name not in held:
                held[name] = self._load(instance)
            value: T = held[name]
            return value
