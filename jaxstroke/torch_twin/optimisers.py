"""The optimisers and schedules of the papers in PyTorch, for the comparison of training steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from jaxstroke.experiment import Schedule, fields

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def learning_rate(
    schedule: Schedule, optimiser: fields.Optimiser, *, steps_per_epoch: int, epochs: int
) -> Callable[[int], float]:
    """The learning rate of a step (0 for the first): constant, halving, or warm-up and cosine."""
    eta = optimiser.learning_rate
    warm, total = schedule.warmup_epochs * steps_per_epoch, epochs * steps_per_epoch

    def halving(step: int) -> float:
        return eta / 2 ** (step // (schedule.half_every_epochs * steps_per_epoch))

    def warmup_cosine(step: int) -> float:
        if step < warm:
            return eta * step / warm
        return eta * (1 + math.cos(math.pi * min(1.0, (step - warm) / (total - warm)))) / 2

    return {"constant": lambda step: eta, "halving": halving, "warmup_cosine": warmup_cosine}[schedule.name]


class UnscaledDecay(torch.optim.Adam):
    """Adam, and the decay taken off the weights without the learning rate: w -= eta m(g) + d w."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        super().__init__(parameters, betas=BETAS, eps=EPSILON)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        decayed = [self.decay * p for p in parameters]
        super().step(closure)
        for p, part in zip(parameters, decayed, strict=True):
            p.sub_(part)


class Optimiser:
    """One step of an experiment's optimiser: clip each variable, set the rate, step."""

    def __init__(
        self, spec: fields.Optimiser, rate: Callable[[int], float], parameters: Iterable[nn.Parameter]
    ) -> None:
        self._parameters = list(parameters)
        self._rate, self._clip = rate, spec.clip_variable_norm
        self._steps = 0
        settings = {"betas": BETAS, "eps": EPSILON, "weight_decay": spec.weight_decay}
        if spec.name == "adam":
            self._inner: torch.optim.Optimizer = torch.optim.Adam(self._parameters, **settings)
        elif spec.name == "adamw":
            self._inner = torch.optim.AdamW(self._parameters, **settings)
        else:
            self._inner = UnscaledDecay(self._parameters, spec.weight_decay)

    def step(self) -> None:
        """Takes the gradients that lie in the parameters."""
        if self._clip is not None:
            for parameter in self._parameters:
                clip_variable(parameter.grad, self._clip)
        for group in self._inner.param_groups:
            group["lr"] = self._rate(self._steps)
        self._inner.step()
        self._steps += 1

    def zero_grad(self) -> None:
        self._inner.zero_grad(set_to_none=True)


def clip_variable(gradient: Tensor | None, norm: float) -> None:
    """Scales one gradient down to the norm, if it is longer."""
    if gradient is not None:
        gradient.mul_(norm / gradient.norm().clamp(min=norm))
