"""Operations that torch knows by name, and that cost nothing where it need not know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Operator:
    """A torch custom operator around a function of tensors.

    ``torch.compile``, fake tensors, autograd and function transforms meet the operator. A plain
    call on plain tensors goes straight to the function: the operator's first call imports torch's
    compiler, which takes two seconds, and each one costs a fifth of a millisecond.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._function = function
        self._operator = torch.library.custom_op(name, function, mutates_args=())
        self.register_fake = self._operator.register_fake
        self.register_autograd = self._operator.register_autograd

    def __call__(self, *args: Any) -> Any:
        """The function's result, by the operator where anything must know of it."""
        return self._function(*args) if _nobody_looks(args) else self._operator(*args)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Make a function a custom operator that changes none of its arguments.

    Args:
        name: ``namespace::name``.
    """
    return lambda function: Operator(name, function)


def _nobody_looks(args: tuple[Any, ...]) -> bool:
    if torch.compiler.is_compiling():
        return False
    # Modes that watch every operation, and vmap, grad and their like: torch names no public way.
    transform: object = torch._C._functorch.peek_interpreter_stack()
    if torch._C._len_torch_dispatch_stack() or transform is not None:
        return False
    differentiates = torch.is_grad_enabled()
    for arg in args:
        for tensor in arg if isinstance(arg, list) else (arg,):
            if isinstance(tensor, Tensor) and (
                type(tensor) not in (Tensor, torch.nn.Parameter)
                or (differentiates and tensor.requires_grad)
            ):
                return False
    return True
