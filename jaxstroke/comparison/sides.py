"""The two sides of a comparison, JAX and PyTorch, behind one face: weights in, figures out, all as numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import Tensor

from jaxstroke import losses as jax_losses
from jaxstroke.comparison.specimen import Specimen
from jaxstroke.models import apply
from jaxstroke.schedules import build_optimiser
from jaxstroke.schedules import learning_rate as jax_rate
from jaxstroke.torch_twin import arrays, losses, optimisers, weights

Batch = Mapping[str, np.ndarray]
Arrays = dict[weights.Path, np.ndarray]  # by path in the Linen tree, in Linen's layout

# One step is an epoch, so that ten steps see the beginning of the schedule: warm-up over epochs, above all.
STEPS_PER_EPOCH = 1


class JaxSide:
    """`wide` computes in float64; its calls, the making included, then stand under `jax.enable_x64`.

    `dtype` is the network's own word for the width of its arithmetic, such as "bfloat16".
    """

    def __init__(
        self,
        specimen: Specimen,
        variables: Mapping[str, Any],
        device: Any,
        *,
        dtype: str | None = None,
        wide: bool = False,
    ) -> None:
        self._data, self._device, self._wide = specimen.data, device, wide
        experiment = specimen.experiment
        self._network = specimen.network(**({} if dtype is None else {"dtype": dtype}))
        epochs = experiment.training.epochs
        rate = jax_rate(experiment.schedule, experiment.optimiser, steps_per_epoch=STEPS_PER_EPOCH, epochs=epochs)
        # Optax counts in int32, of which a schedule makes float32 also where the weights are float64.
        self._optimiser = build_optimiser(experiment.optimiser, lambda step: rate(jnp.asarray(step, int)))
        placed = self._place({"batch_stats": {}, **variables})
        begun = jax.jit(self._optimiser.init)(placed["params"])
        # On the device by word, as what a step returns is: else the second step would be compiled anew.
        self._state = (placed["params"], placed["batch_stats"], jax.device_put(begun, device))
        self._loss = experiment.loss
        self._step = jax.jit(self._advance)
        apart = device.platform == "cpu"
        self._forward = jax.jit(lambda v, batch: apply.forward(self._network, v, batch, self._data, one_by_one=apart))

    def forward(self, batch: Batch) -> dict[str, np.ndarray]:
        """Every output in evaluation mode, by name."""
        params, statistics, _ = self._state
        variables = {"params": params, "batch_stats": statistics}
        outputs = self._forward(variables, self._place(batch))
        sides = {f"side{number}": side for number, side in enumerate(outputs.side_logits)}
        return jax.tree.map(np.asarray, {"logits": outputs.logits, **sides, **outputs.features})

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        """The loss and the gradients before clipping; nothing is changed."""
        _, loss, gradients = self._step(self._state, self._place(batch))
        return float(loss), _flat("params", gradients)

    def step(self, batch: Batch) -> None:
        self.run(self._place(batch))

    def weights(self) -> Arrays:
        return _flat("params", self._state[0])

    def statistics(self) -> Arrays:
        return _flat("batch_stats", self._state[1])

    def run(self, batch: Any) -> Any:
        """A step whose figures stay on the device, for timing; returns what to wait for."""
        self._state, loss, _ = self._step(self._state, batch)
        return loss

    def run_forward(self, batch: Any) -> Any:
        """The logits, left on the device, for timing."""
        params, statistics, _ = self._state
        return self._forward({"params": params, "batch_stats": statistics}, batch).logits

    def _place(self, tree: Mapping[str, Any]) -> Any:
        """Weights or a batch on the device."""
        kinds = {np.dtype(np.float32): np.float64} if self._wide else {}
        return jax.device_put(jax.tree.map(lambda a: a.astype(kinds.get(a.dtype, a.dtype)), dict(tree)), self._device)

    def _advance(self, state: Any, batch: Any) -> Any:
        params, statistics, opt_state = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": statistics}
            outputs, new = apply.train_forward(self._network, variables, batch, self._data, jax.random.key(0))
            return jax_losses.total_loss(outputs, batch, self._loss)[0], new

        (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = self._optimiser.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), new, opt_state), loss, gradients


class TorchSide:
    """`wide` computes in float64."""

    def __init__(
        self,
        specimen: Specimen,
        variables: Mapping[str, Any],
        device: torch.device,
        *,
        wide: bool = False,
        autocast: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        experiment, self._data = specimen.experiment, specimen.data
        self._device, self._dtype = device, torch.float64 if wide else torch.float32
        self._autocast = autocast
        self._twin = specimen.twin()
        self._names = weights.correspondence(variables, self._twin)
        self._twin.load_state_dict(weights.to_torch(variables, self._twin))
        self._twin.to(device=device, dtype=self._dtype)
        if channels_last:
            for parameter in self._twin.parameters():
                parameter.data = _channels_last(parameter.data)
        self._channels_last = channels_last
        self._call: Callable[..., Any] = torch.compile(self._twin) if compiled else self._twin
        epochs = experiment.training.epochs
        rate = optimisers.learning_rate(
            experiment.schedule, experiment.optimiser, steps_per_epoch=STEPS_PER_EPOCH, epochs=epochs
        )
        self._optimiser = optimisers.Optimiser(experiment.optimiser, rate, self._twin.parameters())
        self._loss = experiment.loss

    def to_device(self, batch: Batch) -> dict[str, Tensor]:
        """The batch on the device, channels first."""
        placed = {}
        for name, array in batch.items():
            if name == "valid":
                placed[name] = torch.from_numpy(array).to(self._device)
                continue
            placed[name] = arrays.to_torch(array, self._data.kind).to(self._device, self._dtype)
        if self._channels_last and not self._data.kind.in_order:  # those are taken slice by slice
            placed["images"] = _channels_last(placed["images"])
        return placed

    @torch.no_grad()
    def forward(self, batch: Batch) -> dict[str, np.ndarray]:
        self._twin.eval()
        outputs = self._outputs(self.to_device(batch))
        sides = {f"side{number}": side for number, side in enumerate(outputs.side_logits)}
        named = {"logits": outputs.logits, **sides, **outputs.features}
        return {name: arrays.to_numpy(tensor, self._data.kind) for name, tensor in named.items()}

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        """The loss and the gradients before clipping; nothing is changed."""
        kept = {name: buffer.clone() for name, buffer in self._twin.named_buffers()}
        loss = self._backward(self.to_device(batch))
        for name, buffer in self._twin.named_buffers():
            buffer.copy_(kept[name])
        found = {name: p.grad for name, p in self._twin.named_parameters() if p.grad is not None}
        return float(loss), self._linen("params", found)

    def step(self, batch: Batch) -> None:
        self.run(self.to_device(batch))

    def weights(self) -> Arrays:
        return self._linen("params", self._twin.state_dict())

    def statistics(self) -> Arrays:
        return self._linen("batch_stats", self._twin.state_dict())

    def run(self, batch: dict[str, Tensor]) -> Tensor:
        """A step whose figures stay on the device, for timing."""
        loss = self._backward(batch)
        self._optimiser.step()
        return loss

    @torch.no_grad()
    def run_forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The logits, left on the device, for timing."""
        self._twin.eval()
        return self._outputs(batch).logits

    def _backward(self, batch: dict[str, Tensor]) -> Tensor:
        self._twin.train()
        self._optimiser.zero_grad()
        volumes = self._data.kind.holds_slices and not self._data.kind.in_order
        loss = losses.total_loss(self._outputs(batch), batch, self._loss, volumes=volumes)
        loss.backward()
        return loss.detach()

    def _outputs(self, batch: dict[str, Tensor]) -> Any:
        inputs = (batch["images"], batch["valid"]) if self._data.kind.in_order else (batch["images"],)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            return self._call(*inputs)

    def _linen(self, collection: str, tensors: Mapping[str, Tensor]) -> Arrays:
        """The tensors of one collection by their Linen paths; a parameter without gradient has zeros."""
        found = {}
        for path, (name, rule) in self._names.items():
            if path[0] == collection:
                tensor = tensors[name] if name in tensors else torch.zeros_like(self._twin.get_parameter(name))
                found[path] = np.array(rule.back(tensor.detach().cpu().numpy()))
        return found


def _channels_last(tensor: Tensor) -> Tensor:
    """The same numbers, in memory with the channels of a map or volume side by side."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.to(memory_format=formats.get(tensor.ndim, torch.preserve_format))


def _flat(collection: str, tree: Any) -> Arrays:
    return {path: np.asarray(leaf) for path, leaf in weights.flatten({collection: tree}).items()}


def wait(value: Any) -> None:
    """Returns when a step has really been done."""
    if isinstance(value, Tensor):
        if value.is_cuda:
            torch.cuda.synchronize()
    else:
        jnp.asarray(value).block_until_ready()
