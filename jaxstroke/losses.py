"""The losses of the papers, on logits, in float32, with masked means that padding cannot change.

Shapes: logits and masks are (*lead, H, W, K), where `lead` is (B,) for slices, (B, T) for clips, (B, D) for volumes,
and K counts the targets.  `valid` is (B,), (B, T) or (B, D): a padded example or slice takes no part, and
every mean is a sum over the valid entries divided by their number (never by less than one, so that a batch of
padding alone gives 0 and a finite gradient).

An experiment names its terms: `total_loss` adds weight x term over `Loss.terms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp

from jaxstroke.errors import UserError, nearest
from jaxstroke.experiment import Loss
from jaxstroke.models.nn.precision import at_least_float32
from jaxstroke.models.outputs import Outputs

# Added to numerator and denominator of the soft Dice: the false area, in pixels, that costs an empty reference half of
# the most it can cost.  It bounds the gradient there by 1 / DICE_SMOOTH_PIXELS a pixel.
DICE_SMOOTH_PIXELS = 1.0
SQUARED_NORM_FLOOR = 1e-12

Batch = Mapping[str, jax.Array]


def soft_dice_loss(logits: jax.Array, masks: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over examples and targets of 1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s), s = 1 pixel.

    MDANet eq. 11 and DME-Net's Dice with probabilities in the place of the set X.  Neither paper says over what the
    sums run; here they run over the valid pixels of one example (a slice, or a whole clip or volume) and one target.
    The smoothing s makes "empty reference, nothing predicted" a loss of 0 where the printed formula is 0 / 0.

    >>> mask = jnp.ones((1, 2, 2, 1))
    >>> float(soft_dice_loss(jnp.zeros_like(mask), mask, jnp.ones((1,), bool)))  # p = 1/2: 1 - (2 * 2 + 1) / 7
    0.2857142686843872
    """
    _one_shape(logits, masks, valid)
    probabilities = jax.nn.sigmoid(at_least_float32(logits))
    masks = at_least_float32(masks)
    weight = _expand(valid, logits)
    pixels = tuple(range(1, logits.ndim - 1))
    both = jnp.sum(weight * probabilities * masks, axis=pixels)
    either = jnp.sum(weight * (probabilities + masks), axis=pixels)
    loss = 1.0 - (2.0 * both + DICE_SMOOTH_PIXELS) / (either + DICE_SMOOTH_PIXELS)
    present = jnp.max(valid.reshape(valid.shape[0], -1), axis=1)
    return _masked_mean(loss, present)


def binary_cross_entropy(
    logits: jax.Array,
    masks: jax.Array,
    valid: jax.Array,
    *,
    lesion_weight: float = 1.0,
    background_weight: float = 1.0,
) -> jax.Array:
    """Mean over pixels and targets of C * -[y log p + (1 - y) log(1 - p)].

    C, the class weight map, is `lesion_weight` where y = 1 and `background_weight` where y = 0; the mean divides by the
    number of pixels, not by the sum of C.  MDANet's eq. 12 prints the sum of -y log x over the classes: with two
    classes of one logit that is this expression.

    >>> mask = jnp.zeros((1, 2, 2, 1))
    >>> float(binary_cross_entropy(jnp.zeros_like(mask), mask, jnp.ones((1,), bool)))  # log 2
    0.6931471824645996
    """
    _one_shape(logits, masks, valid)
    lesion, background = _log_losses(logits)
    masks = at_least_float32(masks)
    loss = lesion_weight * masks * lesion + background_weight * (1.0 - masks) * background
    return _masked_mean(loss, valid)


def focal_loss(
    logits: jax.Array,
    masks: jax.Array,
    valid: jax.Array,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    lesion_weight: float = 1.0,
    background_weight: float = 1.0,
) -> jax.Array:
    """Sum over the targets of the mean over pixels of alpha C * -[y (1 - p)^g log p + (1 - y) p^g log(1 - p)].

    The cross-domain paper's eq. 1, a target for each modality.  As printed the formula lacks the reference y, and with
    it the whole background term; both are restored here.  Its alpha multiplies everything (it does not balance the
    classes: C does), and None leaves it out, as the authors' published code does.

    >>> mask = jnp.zeros((1, 2, 2, 1))
    >>> float(focal_loss(jnp.zeros_like(mask), mask, jnp.ones((1,), bool)))  # log 2 / 4
    0.1732867956161499
    """
    _one_shape(logits, masks, valid)
    lesion, background = _log_losses(logits)
    masks = at_least_float32(masks)
    # log p = -lesion and log(1 - p) = -background, so the powers need no probability and cannot leave 0..1.
    loss = lesion_weight * masks * jnp.exp(-gamma * background) * lesion
    loss += background_weight * (1.0 - masks) * jnp.exp(-gamma * lesion) * background
    targets = logits.shape[-1]
    return (1.0 if alpha is None else alpha) * targets * _masked_mean(loss, valid)


def multilevel_cross_entropy(
    levels: Sequence[jax.Array],
    masks: jax.Array,
    valid: jax.Array,
    *,
    level_weights: Sequence[float],
    lesion_weight: float = 1.0,
    background_weight: float = 1.0,
) -> jax.Array:
    """Sum over the levels, coarsest first, of W_l * mean(C * binary cross-entropy of level l).

    The cascade paper's multilevel refinement; every level comes at full size and is held against the full-size mask.
    As printed, W C Y log(Y^) lacks the background term and the sign; its text says "a binary cross-entropy, weighted
    by class weight maps", which is what stands here.
    """
    losses = [
        binary_cross_entropy(level, masks, valid, lesion_weight=lesion_weight, background_weight=background_weight)
        for level in levels
    ]
    return sum((w * loss for w, loss in zip(level_weights, losses, strict=True)), start=jnp.float32(0.0))


def masked_similarity_loss(first: jax.Array, second: jax.Array, masks: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over slices of 1 - A.B / (|A| |B|), MDANet's eq. 8.

    A and B are the global averages of two feature maps (*lead, H, W, F) over the pixels outside every lesion.  The
    cosine does not depend on the length of A and B, so the sum over those pixels divided by all pixels serves as the
    average.  A zero vector has cosine 0 and gradient 0.
    """
    chex.assert_equal_shape((first, second))
    chex.assert_equal_rank((first, masks))
    chex.assert_equal_shape_prefix((first, valid), valid.ndim)
    healthy = 1.0 - jnp.max(at_least_float32(masks), axis=-1, keepdims=True)
    one, other = (_unit(jnp.mean(healthy * at_least_float32(x), axis=(-3, -2))) for x in (first, second))
    return _masked_mean(1.0 - jnp.sum(one * other, axis=-1), valid)


def boundary_loss(logits: jax.Array, distance: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over pixels and targets of p * D, with D the signed distance in pixels to the reference's boundary.

    D is positive outside, -(d - 1) inside, and 0 everywhere where the reference is empty.  DME-Net names a boundary
    loss without printing one; this is the form of Kervadec et al. (2019), and it goes below 0.
    """
    _one_shape(logits, distance, valid)
    probabilities = jax.nn.sigmoid(at_least_float32(logits))
    return _masked_mean(probabilities * at_least_float32(distance), valid)


def total_loss(outputs: Outputs, batch: Batch, spec: Loss) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the weighted sum of the experiment's terms, and each term by name, before its weight.

    `batch` holds `masks`, `distance` and `valid`.  Words: soft_dice, cross_entropy, boundary, focal, multilevel
    (needs `outputs.side_logits`: every level, coarsest first, the finest equal to `outputs.logits`) and similarity
    (needs `outputs.features["group1"]` and `["group2"]`).
    """
    for name in spec.terms:
        if name not in TERMS:
            raise UserError(f"loss.terms: there is no loss named {name}.{nearest(name, TERMS)}")
    values = {name: TERMS[name](outputs, batch, spec) for name in spec.terms}
    total = sum((weight * values[name] for name, weight in spec.terms.items()), start=jnp.float32(0.0))
    return total, values


# --- the terms by name -------------------------------------------------------------------------------------------


def _soft_dice(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    return soft_dice_loss(outputs.logits, batch["masks"], batch["valid"])


def _cross_entropy(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    return binary_cross_entropy(outputs.logits, batch["masks"], batch["valid"], **_class_weights(spec))


def _boundary(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    return boundary_loss(outputs.logits, batch["distance"], batch["valid"])


def _focal(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    return focal_loss(
        outputs.logits,
        batch["masks"],
        batch["valid"],
        gamma=spec.focal_gamma,
        alpha=spec.focal_alpha,
        **_class_weights(spec),
    )


def _multilevel(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    levels = outputs.side_logits
    if len(levels) != len(spec.level_weights):
        raise UserError(
            f"loss.level_weights={','.join(map(str, spec.level_weights))}: the network gives {len(levels)} levels of "
            f"logits for {len(spec.level_weights)} weights; give one weight for each level, coarsest first"
        )
    return multilevel_cross_entropy(
        levels, batch["masks"], batch["valid"], level_weights=spec.level_weights, **_class_weights(spec)
    )


def _similarity(outputs: Outputs, batch: Batch, spec: Loss) -> jax.Array:
    if not {"group1", "group2"} <= outputs.features.keys():
        raise UserError(
            "loss.terms: similarity compares the first-stage features of two modality groups, which this network does "
            "not give; remove the term or choose a network with two groups such as mda_net"
        )
    return masked_similarity_loss(
        outputs.features["group1"], outputs.features["group2"], batch["masks"], batch["valid"]
    )


TERMS: dict[str, Callable[[Outputs, Batch, Loss], jax.Array]] = {
    "soft_dice": _soft_dice,
    "cross_entropy": _cross_entropy,
    "boundary": _boundary,
    "focal": _focal,
    "multilevel": _multilevel,
    "similarity": _similarity,
}


def _class_weights(spec: Loss) -> dict[str, float]:
    return {"lesion_weight": spec.lesion_weight, "background_weight": spec.background_weight}


# --- arithmetic --------------------------------------------------------------------------------------------------


def _one_shape(logits: jax.Array, masks: jax.Array, valid: jax.Array) -> None:
    """Logits and what they are held against are (*lead, H, W, K), and `valid` is the front of `lead`."""
    chex.assert_equal_shape((logits, masks))
    chex.assert_equal_shape_prefix((logits, valid), valid.ndim)


def _log_losses(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns -log p and -log(1 - p), finite for every finite logit."""
    logits = at_least_float32(logits)
    return jax.nn.softplus(-logits), jax.nn.softplus(logits)


def _expand(valid: jax.Array, values: jax.Array) -> jax.Array:
    """Gives `valid` as many axes as `values`, as float32."""
    return at_least_float32(valid).reshape(valid.shape + (1,) * (values.ndim - valid.ndim))


def _masked_mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean of `values` (*valid.shape, ...) over its valid entries; 0 where there is none."""
    count = jnp.sum(at_least_float32(valid)) * math.prod(values.shape[valid.ndim :])
    return jnp.sum(_expand(valid, values) * values) / jnp.maximum(count, 1.0)


def _unit(vectors: jax.Array) -> jax.Array:
    """Scales the last axis to length 1; shorter vectors than 1e-6 keep a finite gradient instead."""
    squared = jnp.sum(vectors * vectors, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, SQUARED_NORM_FLOOR))
