"""The losses in PyTorch, for the comparison of gradients: the formulas of `jaxstroke.losses`, channels first.

Logits and masks are (B, K, H, W) with `valid` (B,), or (B, T, K, H, W) with (B, T); volumes are brought to that shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from jaxstroke.experiment import Loss
from jaxstroke.torch_twin.outputs import Outputs

DICE_SMOOTH_PIXELS = 1.0
SQUARED_NORM_FLOOR = 1e-12

Batch = Mapping[str, Tensor]


def total_loss(outputs: Outputs, batch: Batch, spec: Loss, *, volumes: bool = False) -> Tensor:
    """The weighted sum of the experiment's terms; of volumes, (B, K, D, H, W), slices go where those of clips are."""
    if volumes:
        outputs = outputs._replace(logits=outputs.logits.swapaxes(1, 2))
        batch = {**batch, **{name: batch[name].swapaxes(1, 2) for name in ("masks", "distance")}}
    total = outputs.logits.new_zeros(())
    for name, weight in spec.terms.items():
        total = total + weight * _term(name, outputs, batch, spec)
    return total


def _term(name: str, outputs: Outputs, batch: Batch, spec: Loss) -> Tensor:
    logits, masks, valid = outputs.logits, batch["masks"], batch["valid"]
    if name == "soft_dice":
        return soft_dice_loss(logits, masks, valid)
    if name == "cross_entropy":
        return cross_entropy(logits, masks, valid, spec)
    if name == "boundary":
        return masked_mean(torch.sigmoid(logits) * batch["distance"], valid)
    if name == "focal":
        return focal_loss(logits, masks, valid, spec)
    if name == "multilevel":
        levels = zip(spec.level_weights, outputs.side_logits, strict=True)
        return sum((w * cross_entropy(level, masks, valid, spec) for w, level in levels), logits.new_zeros(()))
    if name == "similarity":
        return masked_similarity(outputs.features["group1"], outputs.features["group2"], masks, valid)
    raise ValueError(f"loss.terms: the twins have no loss named {name}")


def soft_dice_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Mean over examples and targets of 1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s)."""
    probabilities = torch.sigmoid(logits)
    weight = _expand(valid, logits)
    channel = 2 if valid.ndim == 2 else 1
    pixels = [axis for axis in range(1, logits.ndim) if axis != channel]
    both = (weight * probabilities * masks).sum(pixels)
    either = (weight * (probabilities + masks)).sum(pixels)
    loss = 1 - (2 * both + DICE_SMOOTH_PIXELS) / (either + DICE_SMOOTH_PIXELS)
    return masked_mean(loss, valid.flatten(1).any(1) if valid.ndim == 2 else valid)


def cross_entropy(logits: Tensor, masks: Tensor, valid: Tensor, spec: Loss) -> Tensor:
    """Mean over pixels and targets of C * -[y log p + (1 - y) log(1 - p)]."""
    lesion, background = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    loss = spec.lesion_weight * masks * lesion + spec.background_weight * (1 - masks) * background
    return masked_mean(loss, valid)


def focal_loss(logits: Tensor, masks: Tensor, valid: Tensor, spec: Loss) -> Tensor:
    """Sum over the targets of the mean over pixels of alpha C * -[y (1 - p)^g log p + (1 - y) p^g log(1 - p)]."""
    p = torch.sigmoid(logits)
    lesion, background = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    gamma = spec.focal_gamma
    loss = spec.lesion_weight * masks * (1 - p) ** gamma * lesion
    loss = loss + spec.background_weight * (1 - masks) * p**gamma * background
    targets = masks.shape[2 if valid.ndim == 2 else 1]
    return (1.0 if spec.focal_alpha is None else spec.focal_alpha) * targets * masked_mean(loss, valid)


def masked_similarity(first: Tensor, second: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Mean over slices of 1 - cosine of the two maps' averages over pixels outside every lesion."""
    healthy = 1 - masks.amax(dim=1, keepdim=True)
    one, other = (_unit((healthy * x).mean(dim=(-2, -1))) for x in (first, second))
    return masked_mean(1 - (one * other).sum(-1), valid)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of `values` (*valid.shape, ...) over its valid entries; 0 where there is none."""
    count = valid.float().sum() * math.prod(values.shape[valid.ndim :])
    return (_expand(valid, values) * values).sum() / count.clamp(min=1.0)


def _expand(valid: Tensor, values: Tensor) -> Tensor:
    return valid.float().reshape(*valid.shape, *(1,) * (values.ndim - valid.ndim))


def _unit(vectors: Tensor) -> Tensor:
    squared = vectors.square().sum(-1, keepdim=True)
    return vectors * torch.rsqrt(squared.clamp(min=SQUARED_NORM_FLOOR))
