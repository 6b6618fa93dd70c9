"""A part of a network that is computed slice by slice in a loop, and differentiated over all slices at once.

A loop's backward pass is slow, and needs not be taken where the loop uses the part's answer without a gradient.  The
part is then called twice with the same weights and inputs: in the loop its convolutions' answers are recorded, and
after the loop they are given back, so that nothing is convolved again and each convolution still has its gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import Convolution


@contextlib.contextmanager
def recording() -> Iterator[list[jax.Array]]:
    """The answers of the convolutions that are called meanwhile, one after another; no gradient goes into them."""
    answers: list[jax.Array] = []

    def record(answer: jax.Array) -> jax.Array:
        answers.append(jax.lax.stop_gradient(answer))
        return answer

    with _each_convolution(record):
        yield answers


@contextlib.contextmanager
def replaying(answers: Sequence[jax.Array]) -> Iterator[None]:
    """Meanwhile the convolutions answer with these, and have the gradients of what they are called with.

    Where nothing was recorded they answer as they always do.
    """
    left = list(answers)
    with _each_convolution(lambda answer: _known(left.pop(0), answer) if answers else answer):
        yield
    assert not left, "fewer convolutions than were recorded"


def _each_convolution(change: Callable[[jax.Array], jax.Array]) -> AbstractContextManager[None]:
    """Meanwhile what a convolution answers goes through `change`."""

    def changed(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        answer = call(*args, **kwargs)
        convolved = isinstance(context.module, Convolution) and context.method_name == "__call__"
        return change(answer) if convolved else answer

    return nn.intercept_methods(changed)


@jax.custom_vjp
def _known(value: jax.Array, computed: jax.Array) -> jax.Array:
    """`value`, with the gradient of `computed`, which is then computed by nobody.

    Other platforms than the CPU compute once more: a TPU's step waits for memory, and would keep more in it.
    """
    return jax.lax.platform_dependent(
        value, computed, cpu=lambda value, computed: value, default=lambda value, computed: computed
    )


def _known_forward(value: jax.Array, computed: jax.Array) -> tuple[jax.Array, None]:
    return _known(value, computed), None


def _known_backward(kept: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    del kept
    return jnp.zeros_like(g), g


_known.defvjp(_known_forward, _known_backward)
