"""Calling any network of the registry with a batch, whatever one example is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.data import series
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment
from jaxstroke.models import registry
from jaxstroke.models.outputs import Outputs


def build(experiment: Experiment, **fields: Any) -> nn.Module:
    """Builds the network of an experiment."""
    data = experiment.data
    takes = registry.find(experiment.model.name).example
    if data.example != takes:
        raise UserError(f"data.example={data.example}: {experiment.model.name} takes examples of the kind {takes}")
    return registry.build(
        experiment.model,
        groups=(*(len(group) for group in data.groups), *(1 for _ in data.derived)),
        targets=len(data.targets),
        size=data.size,
        **fields,
    )


def example_shape(data: Data) -> tuple[int, ...]:
    """The shape of one example's images: (H, W, C), (T, H, W, C), (D, H, W, C) or (T, H, W, 2)."""
    mirrored = series.CHANNELS if data.kind.holds_times else 1
    return (*data.kind.images_lead(data.depth), data.size, data.size, mirrored * len(data.inputs))


def mask_shape(data: Data) -> tuple[int, ...]:
    """The shape of one example's masks, distances and logits."""
    return (*data.kind.slices_lead(data.depth), data.size, data.size, len(data.targets))


def valid_shape(data: Data) -> tuple[int, ...]:
    """The shape of one example's validity: one flag for each slice of a clip or volume, else one for the example."""
    return data.kind.slices_lead(data.depth)


def abstract_batch(data: Data) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a batch, as `data.stream` makes them."""
    shapes = {
        "images": (example_shape(data), jnp.float32),
        "masks": (mask_shape(data), jnp.uint8),
        "distance": (mask_shape(data), jnp.float16),
        "valid": (valid_shape(data), jnp.bool_),
        "index": ((), jnp.int32),
    }
    return {name: jax.ShapeDtypeStruct((data.batch, *shape), kind) for name, (shape, kind) in shapes.items()}


def inputs(batch: Mapping[str, jax.Array], data: Data) -> tuple[jax.Array, ...]:
    """What the network takes of a batch; of clips and volumes also which slices are there."""
    return (batch["images"], batch["valid"]) if data.kind.holds_slices else (batch["images"],)


def initialise(network: nn.Module, data: Data, key: jax.Array) -> dict[str, Any]:
    """Draws the first weights: {"params": ..., "batch_stats": ...}."""
    batch = {
        "images": jnp.zeros((1, *example_shape(data)), jnp.float32),
        "valid": jnp.ones((1, *valid_shape(data)), bool),
    }
    return dict(network.init({"params": key}, *inputs(batch, data), train=False))


def train_forward(
    network: nn.Module,
    variables: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
    data: Data,
    key: jax.Array,
    *,
    remat: bool = False,
) -> tuple[Outputs, Any]:
    """Runs the network in training mode; returns its outputs and the new batch statistics.

    With `remat` only the results of convolutions and matrix products are kept for the backward pass; what lies between
    them, cheap to compute and as large, is computed again.
    """

    def run(variables: Mapping[str, Any], images: tuple[jax.Array, ...]) -> tuple[Outputs, Any]:
        return network.apply(variables, *images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    run = jax.checkpoint(run, policy=_is_product) if remat else run
    outputs, changed = run(variables, inputs(batch, data))
    _check_answer(outputs, batch["images"], data)
    return outputs, changed.get("batch_stats", {})


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in ("conv_general_dilated", "dot_general")


def wants_remat(experiment: Experiment, network: nn.Module) -> bool:
    """Whether `model.remat` is to be done here; a network with an option of that name does it itself."""
    return bool(experiment.model.options.get("remat")) and not hasattr(network, "remat")


def forward(
    network: nn.Module,
    variables: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
    data: Data,
    *,
    one_by_one: bool = False,
) -> Outputs:
    """Runs the network with its stored statistics; see `one_after_another` for `one_by_one`."""

    def run(*images: jax.Array) -> Any:
        return network.apply(variables, *images, train=False)

    given = inputs(batch, data)
    outputs = one_after_another(run, *given) if one_by_one else run(*given)
    _check_answer(outputs, batch["images"], data)
    return outputs


def one_after_another(call: Callable[..., Any], *batch: jax.Array) -> Any:
    """What `call` makes of a batch, one example after another, where it does not mix them.

    On a CPU the maps of one example stay in its caches, and a batch asks the system for no more memory than one; on an
    accelerator, or a batch that lies on several devices, examples belong side by side.
    """

    def of_one(example: tuple[jax.Array, ...]) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], call(*(array[None] for array in example)))

    return jax.lax.map(of_one, batch)


def _check_answer(outputs: Outputs, images: jax.Array, data: Data) -> None:
    """What every network owes, at any height and width: logits for each target where its images are."""
    chex.assert_rank(images, 1 + len(example_shape(data)))
    *lead, channels = images.shape
    chex.assert_equal(channels, example_shape(data)[-1])
    if data.kind.holds_times:
        del lead[1]  # of the time points one answer is made
    chex.assert_shape((outputs.logits, *outputs.side_logits), (*lead, len(data.targets)))
