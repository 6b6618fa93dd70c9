"""A trained network as a plain function of arrays: what every export is made from and checked against.

A slice, volume or series network is images -> probabilities.  A clip network is exported as its streaming step:

    images of one slice, memory  ->  probabilities, memory

with the memory's arrays one by one, in a fixed order and by name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxstroke import sharding
from jaxstroke.errors import UserError
from jaxstroke.experiment import Data, Experiment
from jaxstroke.models import apply, registry
from jaxstroke.runs.calibration import Calibration, Rule, read_for
from jaxstroke.runs.folder import RunFolder

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Trained:
    """The best weights of a run; `variables` are numpy."""

    experiment: Experiment
    variables: dict[str, Any]
    step: int
    trained_on_phantom: bool
    calibration: Calibration | None = None

    @property
    def rule(self) -> Rule:
        """How probabilities become a mask: as it was calibrated, else as the experiment says."""
        return self.calibration.rule if self.calibration else Rule.of(self.experiment.evaluation)

    @property
    def data(self) -> Data:
        return self.experiment.data

    @functools.cached_property
    def network(self) -> nn.Module:
        return apply.build(self.experiment)

    @property
    def groups(self) -> tuple[int, ...]:
        """Channels of each modality group, those that an earlier stage computes last."""
        return (*(len(group) for group in self.data.groups), *(1 for _ in self.data.derived))

    @property
    def streams(self) -> bool:
        return self.data.kind.in_order

    @property
    def fixed_size(self) -> bool:
        """Whether height and width are those that the network was built for."""
        return "size" in {field.name for field in dataclasses.fields(self.network)}

    @functools.cached_property
    def multiple(self) -> int:
        """What a height or width that is left open must be divisible by; options may double the network's own."""
        least = max(registry.find(self.experiment.model.name).multiple, 16)
        if self.streams or self.fixed_size:
            return least
        return next(step for step in (least, 2 * least) if step == 2 * least or self._takes(self.data.size + step))

    def _takes(self, size: int) -> bool:
        shape = jax.ShapeDtypeStruct(self.image_shape(1, size), jnp.float32)
        try:
            jax.eval_shape(self.function, shape)
        except UserError:
            return False
        return True

    def image_shape(self, batch: int, size: int) -> tuple[int, ...]:
        """Of the images that the exported function takes, channels last."""
        channels = apply.example_shape(self.data)[-1]
        lead = () if self.streams else self.data.kind.images_lead(self.data.depth)
        return (batch, *lead, size, size, channels)

    def memory_names(self) -> list[str]:
        """The arrays that a streaming network carries, such as "temporal_keys"; none for other networks."""
        if not self.streams:
            return []
        memory = jax.eval_shape(lambda: self._initial(1, self.data.size))
        paths, _ = jax.tree_util.tree_flatten_with_path(memory)
        return ["_".join(str(key.name) for key in path) for path, _ in paths]

    def initial_memory(self, batch: int, size: int) -> Arrays:
        """The memory before a subject's first slice."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self._initial(batch, size))] if self.streams else []

    @functools.cached_property
    def function(self) -> Callable[..., list[jax.Array]]:
        """(images, *memory) -> [probabilities, *memory], for tracing; the weights are constants in it.

        One and the same function each time, so that it is traced once for each shape.
        """
        if not self.streams:
            return lambda images: [jax.nn.sigmoid(self._apply(images, train=False).logits)]
        _, structure = jax.tree.flatten(jax.eval_shape(lambda: self._initial(1, self.data.size)))

        def step(images: jax.Array, *leaves: jax.Array) -> list[jax.Array]:
            memory = jax.tree.unflatten(structure, leaves)
            valid = jnp.ones((images.shape[0],), bool)
            memory, outputs = self._apply(memory, images, valid, method="step")
            return [jax.nn.sigmoid(outputs.logits), *jax.tree.leaves(memory)]

        return step

    def _initial(self, batch: int, size: int) -> Any:
        return self._apply(batch, size, size, method="initial_memory")

    def _apply(self, *inputs: Any, **how: Any) -> Any:
        return self.network.apply(self.variables, *inputs, **how)


def read_run(path: Path) -> Trained:
    """The network of a run with its best weights."""
    run = RunFolder(path)
    experiment = run.experiment()
    network = apply.build(experiment)
    shapes = jax.eval_shape(lambda key: apply.initialise(network, experiment.data, key), jax.random.key(0))
    replicated = sharding.replicated(sharding.make_mesh())
    restored = run.checkpoints().restore_best(
        {"weights": sharding.with_shardings({"batch_stats": {}, **shapes}, replicated)},
        choose_by=experiment.evaluation.choose_by,
    )
    variables = jax.tree.map(np.asarray, dict(restored.trees["weights"]))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{path}: the weights of step {restored.step} hold numbers that are not finite")
    variables = {name: tree for name, tree in variables.items() if tree}
    calibration = read_for(path, restored.step)
    return Trained(experiment, variables, restored.step, bool(run.about().get("phantom")), calibration)
