"""How large a network is and how many multiply-accumulates it takes, found by tracing: nothing is computed.

The operations are those that publications count: convolutions, linear layers and matrix products (attention among
them).  Normalisation, activation, pooling and interpolation are left out, also where sums and interpolation are written
as matrix products (`nn/sums.py` and `nn/resize.py` mark them).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxstroke.data import series
from jaxstroke.experiment import Model, kinds
from jaxstroke.models import registry
from jaxstroke.models.nn.resize import INTERPOLATION
from jaxstroke.models.nn.sums import SUMS

FLOAT32_BYTES = 4
_LEFT_OUT = (INTERPOLATION, SUMS)


@dataclasses.dataclass(frozen=True)
class Size:
    """What a network weighs.

    Attributes:
      parameters: trained weights.
      statistics: running means and variances of batch normalisation, which are stored beside the weights.
      macs: multiply-accumulates of a forward pass of one example.
    """

    parameters: int
    statistics: int
    macs: int


def input_shape(entry: registry.Entry) -> tuple[int, ...]:
    """The images of one example of a line of the catalogue, without the batch axis."""
    kind = kinds.kind(registry.find(entry.network).example)
    channels = sum(entry.groups) * (series.CHANNELS if kind.holds_times else 1)
    return (*kind.images_lead(entry.depth), entry.size, entry.size, channels)


def measure(entry: registry.Entry) -> Size:
    """Builds a line of the catalogue and counts it, by shapes alone."""
    model = Model(entry.network, entry.options)
    network = registry.build(model, groups=entry.groups, targets=entry.targets, size=entry.size)
    inputs = [jax.ShapeDtypeStruct((1, *input_shape(entry)), jnp.float32)]
    if kinds.kind(registry.find(entry.network).example).in_order:
        inputs.append(jax.ShapeDtypeStruct((1, entry.depth), jnp.bool_))
    apply = functools.partial(network.apply, train=False)
    variables = jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x, train=False), *inputs)
    variables = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    statistics = elements(variables.get("batch_stats", {}))
    return Size(parameters(variables), statistics, count_macs(apply, variables, *inputs))


def parameters(variables: Mapping[str, Any]) -> int:
    """The number of trained weights; running statistics (`batch_stats`) are not among them."""
    return elements(variables.get("params", {}))


def elements(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def mib(count: int) -> float:
    """The size in MiB (2^20 bytes) of so many float32 numbers.

    >>> round(mib(7_853_313), 2)
    29.96
    """
    return count * FLOAT32_BYTES / 2**20


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiply-accumulates of one call with arguments of these shapes (arrays or `jax.ShapeDtypeStruct`).

    A convolution takes (kernel taps x input channels of a group) for each number of its output; a transposed one
    takes (kernel taps x output channels of a group) for each number of its input, the zeros between them not counted.
    """
    return jaxpr_macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def jaxpr_macs(jaxpr: core.Jaxpr, used: Sequence[bool] | None = None) -> int:
    """What nothing is made of is not counted, as no compiler keeps it: the gradient of a batch's images, for one.

    `used` says so of each result; all are, if it is not given.
    """
    results = zip(jaxpr.outvars, used or [True] * len(jaxpr.outvars), strict=True)
    wanted = {id(variable) for variable, is_used in results if is_used}
    macs = 0
    for equation in reversed(jaxpr.eqns):
        its = [id(variable) in wanted for variable in equation.outvars]
        if any(its) or equation.effects:
            wanted |= {id(variable) for variable in equation.invars}
            macs += 0 if _is_left_out(equation) else _equation_macs(equation, its)
    return macs


def _equation_macs(equation: Any, used: Sequence[bool]) -> int:
    name = equation.primitive.name
    if name == "conv_general_dilated":
        return _convolution_macs(equation)
    if name == "dot_general":
        return _product_macs(equation)
    if name == "scan":  # what is carried, and so has no axis of turns, may be used by the next turn
        bodies = zip(equation.params["jaxpr"].out_avals, equation.outvars, used, strict=True)
        used = [body.shape == whole.aval.shape or its for body, whole, its in bodies]
    inner = [
        jaxpr_macs(jaxpr, used if len(jaxpr.outvars) == len(used) else None) for jaxpr in _inner_jaxprs(equation.params)
    ]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "cond":
        return max(inner, default=0)  # one branch runs; the costliest is the bound
    if name == "while" and sum(inner):
        raise ValueError("a while loop with matrix products has no fixed cost: write it as a scan")
    return sum(inner)


def _is_left_out(equation: Any) -> bool:
    return any(getattr(scope, "name", None) in _LEFT_OUT for scope in equation.source_info.name_stack.stack)


def _inner_jaxprs(parameters: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs inside an equation, such as the body of a scan or of a jitted function."""
    for value in parameters.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one


def _convolution_macs(equation: Any) -> int:
    """Numbers of the output (of the input, if it is spread by zeros) times what each of them is multiplied with."""
    image, kernel, result = (variable.aval.shape for variable in (*equation.invars[:2], *equation.outvars))
    numbers = equation.params["dimension_numbers"]
    batch, channels_out = result[numbers.out_spec[0]], result[numbers.out_spec[1]]
    per_position = math.prod(kernel) // kernel[numbers.rhs_spec[0]]  # taps x input channels of a group
    if any(dilation > 1 for dilation in equation.params["lhs_dilation"]):
        positions = math.prod(image[axis] for axis in numbers.lhs_spec[2:])
    else:
        positions = math.prod(result[axis] for axis in numbers.out_spec[2:])
    return batch * positions * channels_out * per_position


def _product_macs(equation: Any) -> int:
    """Numbers of the result times the length of the contraction."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
