"""What two implementations of a network are compared on: a recipe, drawn weights, drawn batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment import Cascade, Data, Experiment, Loss, Model, Optimiser, catalogue
from jaxstroke.models import apply
from jaxstroke.models import registry as linen
from jaxstroke.torch_twin import registry, weights

# Where no experiment trains a network: the recipe of MDANet's comparison, which most of them come from.
_LOSS = Loss(terms={"soft_dice": 1.0, "cross_entropy": 1.0})
_OPTIMISER = Optimiser("adam", learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class Specimen:
    """A network at a size, with the loss, optimiser and schedule that it is trained with.

    `recipe` names the experiment that these come from.  Augmentation is left out and dropout is 0 on both sides: random
    numbers are not what is compared.
    """

    name: str
    recipe: str
    experiment: Experiment

    @property
    def data(self) -> Data:
        return self.experiment.data

    @property
    def groups(self) -> tuple[int, ...]:
        return (*(len(group) for group in self.data.groups), *(1 for _ in self.data.derived))

    def network(self, **options: Any) -> nn.Module:
        """The Linen network; `options` go on top of the experiment's."""
        model = self.experiment.model
        changed = dataclasses.replace(model, options={**model.options, **options})
        return apply.build(dataclasses.replace(self.experiment, model=changed))

    def twin(self) -> Any:
        return registry.build(self.experiment.model.name, self.network(), self.groups)

    def shapes(self) -> dict[str, Any]:
        """The tree of the Linen variables, as shapes."""
        return jax.eval_shape(lambda key: apply.initialise(self.network(), self.data, key), jax.random.key(0))


def specimen(name: str, *, full: bool = False, own_batch: bool = False) -> Specimen:
    """The specimen of a network, or of a line of the catalogue such as "mda_net/transformer".

    `full` takes the experiment's size and width, `own_batch` its batch too: that in float64 needs tens of GiB.
    """
    entries = [entry for entry in linen.catalogue() if name in (entry.name, entry.network)]
    if not entries:
        known = [*linen.networks(), *(entry.name for entry in linen.catalogue())]
        raise UserError(f"--network {name}: there is no such network.{nearest(name, known)}")
    entry = next((one for one in entries if one.name == name), entries[0])
    experiment, recipe = _recipe(entry)
    small = registry.find(entry.network).small
    options = {**experiment.model.options, **({} if full else small.options)}
    if "dropout" in {field.name for field in dataclasses.fields(cast(type, linen.find(entry.network).module))}:
        options["dropout"] = 0.0
    data = experiment.data
    lead = data.kind.images_lead(data.depth)
    if not full:
        depth = small.depth if lead else 1
        data = dataclasses.replace(data, size=small.size, depth=depth)
    if not own_batch:
        data = dataclasses.replace(data, batch=2 if lead else 4)
    model = dataclasses.replace(experiment.model, options=options)
    return Specimen(name, recipe, dataclasses.replace(experiment, data=data, model=model))


def _recipe(entry: linen.Entry) -> tuple[Experiment, str]:
    """The first experiment that trains the line of the catalogue, or the network; else a default around the line."""
    loaded = map(catalogue.load, catalogue.names())
    known = [experiment for experiment in loaded if experiment.model.name == entry.network]
    exact = [experiment for experiment in known if dict(experiment.model.options) == dict(entry.options)]
    if exact or (known and not entry.options):
        experiment = (exact or known)[0]
        return experiment, experiment.name
    groups = tuple(tuple(f"group{g}_{c}" for c in range(count)) for g, count in enumerate(entry.groups, start=1))
    data = Data(
        layout="none",
        groups=groups,
        targets=tuple(f"target{target}" for target in range(1, entry.targets + 1)),
        example=linen.find(entry.network).example,
        size=entry.size,
        depth=entry.depth,
    )
    base = known[0] if known else Experiment("default", "", "", data, Model(entry.network), _LOSS, _OPTIMISER)
    loss = base.loss
    sided = entry.options.get("refinement", True)  # without side logits their loss has nothing to act on
    if "multilevel" in loss.terms and not sided:
        loss = dataclasses.replace(loss, terms={"cross_entropy": 1.0}, level_weights=())
    return (
        dataclasses.replace(
            base, data=data, model=Model(entry.network, dict(entry.options)), loss=loss, cascade=Cascade()
        ),
        base.name,
    )


def draw_weights(shapes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Weights and statistics in which no two arrays are alike, so that a swap of any two shows.

    Kernels have variance 1 / fan in; biases and other tensors 0.1^2; scales and variances lie around 1.
    """
    random = np.random.default_rng(seed)
    drawn = {}
    for path, leaf in weights.flatten(shapes).items():
        noise = random.normal(size=leaf.shape)
        if path[-1] == "kernel":
            noise *= np.prod(leaf.shape[:-1]) ** -0.5
        elif path[-1] == "var":
            noise = np.exp(0.2 * noise)
        else:
            noise = 0.1 * noise + (path[-1] == "scale")
        drawn[path] = noise.astype(np.float32)
    return weights.unflatten(drawn)
