"""Two memories for a network that walks through the slices of a subject, and the gate between them.

Each memory is a Linen module without state of its own: what it remembers is a pytree that goes in and comes out.

    r = memory.read(state, z)             what the memory has to say about the present slice
    state = memory.write(state, ..., valid)   the present slice is remembered, where it is a slice and no padding

States are float32 whatever the width of the arithmetic around them, so that a long walk does not lose small changes,
and the weights of every attention are computed in float32.
"""

from __future__ import annotations

from typing import Any, TypeVar

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import TORCH_KERNEL, Conv
from jaxstroke.models.nn.precision import at_least_float32

State = TypeVar("State")

# Bias of the gate with which prototypes are rewritten: sigmoid(-2) = 0.12 of the way, a slice, before training.
SLOW_GATE_BIAS = -2.0


@flax.struct.dataclass
class TemporalState:
    """The last K slices of each subject, oldest first, and the recurrent state.

    Attributes:
      keys: (B, K, H, W, key width)
      values: (B, K, H, W, value width)
      stored: (B, K) bool, False where nothing has been written yet
      hidden: (B, H, W, value width), what the recurrent unit carries
    """

    keys: jax.Array
    values: jax.Array
    stored: jax.Array
    hidden: jax.Array


@flax.struct.dataclass
class TemporalReading:
    """What the temporal memory found for a slice.

    Attributes:
      key: (B, H, W, key width), what was looked for, under which the slice is stored later
      result: (B, H, W, value width), the recurrent state after the slice
    """

    key: jax.Array
    result: jax.Array


@flax.struct.dataclass
class SpatialState:
    """The prototypes of each subject: slots (B, P, width)."""

    slots: jax.Array


def keep_where_padded(valid: jax.Array, new: State, old: State) -> State:
    """Takes `new` for the examples that `valid` (B,) marks and the very bits of `old` for the others."""

    def choose(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(valid.reshape(valid.shape + (1,) * (one.ndim - 1)), one, other)

    return jax.tree.map(choose, new, old)


def push(queue: jax.Array, item: jax.Array) -> jax.Array:
    """Drops the oldest of a queue (B, K, ...) and appends the item (B, ...) as the newest."""
    return jnp.concatenate([queue[:, 1:], item[:, None].astype(queue.dtype)], axis=1)


def distance_attention(queries: jax.Array, keys: jax.Array, stored: jax.Array) -> jax.Array:
    """Softmax over memory of the negative squared distance between query and key.

        a(m, q) = (2 m.q - |m|^2) / sqrt(C) = (|q|^2 - |m - q|^2) / sqrt(C)

    where |q|^2 does not change a softmax over m.  Unlike a plain product it does not favour long keys.  The two
    terms nearly cancel for a good match, so both are taken in full float32, also on matrix units that round by default.

    Args:
      queries: (B, Q, C)
      keys: (B, M, C)
      stored: (B, M) bool

    Returns:
      Weights (B, Q, M), float32: they sum to 1 over the stored keys, and are all 0 where nothing is stored.
    """
    chex.assert_rank((queries, keys, stored), (3, 3, 2))
    chex.assert_equal_shape_prefix((keys, stored), 2)
    queries, keys = at_least_float32(queries), at_least_float32(keys)
    product = jnp.einsum("bqc,bmc->bqm", queries, keys, precision=jax.lax.Precision.HIGHEST)
    length = jnp.sum(jnp.square(keys), axis=-1)[:, None, :]
    affinity = (2.0 * product - length) / jnp.sqrt(float(queries.shape[-1]))
    # A large finite number instead of minus infinity: an empty memory must have finite gradients.
    affinity = jnp.where(stored[:, None, :], affinity, jnp.finfo(jnp.float32).min)
    return jnp.where(stored[:, None, :], jax.nn.softmax(affinity, axis=-1), 0.0)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose products are 3 x 3 convolutions (Ballas et al., 2016).

        u, r = sigmoid(conv[x, h]),  c = tanh(conv[x, r h]),  h' = (1 - u) h + u c

    (B, H, W, X), (B, H, W, C) -> (B, H, W, C), float32.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, hidden: jax.Array) -> jax.Array:
        features = hidden.shape[-1]
        gates = Conv(2 * features, dtype=self.dtype, name="gates")(_concatenate(x, hidden))
        update, reset = jnp.split(nn.sigmoid(at_least_float32(gates)), 2, axis=-1)
        candidate = Conv(features, dtype=self.dtype, name="candidate")(_concatenate(x, reset * hidden))
        candidate = jnp.tanh(at_least_float32(candidate))
        return (1.0 - update) * hidden + update * candidate


class TemporalMemory(nn.Module):
    """A queue of past slices, read by similarity, and a recurrent unit behind it.

    Each position of the present slice looks through all positions of all stored slices; a slice's key, by which it
    is found later, is the query with which it looked (one projection for both, as the distance asks for).  A stored
    value holds features and the mask predicted from them: intensity and shape.

    The weight that each position gave to each stored slice, (B, H, W, K) with the newest last, is sown as
    `temporal_attention`.
    """

    slices: int
    key_width: int
    value_width: int
    dtype: Any = None

    def setup(self) -> None:
        self.key = Conv(self.key_width, 1, dtype=self.dtype)
        self.value = Conv(self.value_width, dtype=self.dtype)
        self.recurrent = ConvGRU(self.dtype)

    def initial(self, batch: int, height: int, width: int) -> TemporalState:
        """An empty memory for maps of this height and width."""
        place = (batch, self.slices, height, width)
        return TemporalState(
            keys=jnp.zeros((*place, self.key_width)),
            values=jnp.zeros((*place, self.value_width)),
            stored=jnp.zeros((batch, self.slices), bool),
            hidden=jnp.zeros((batch, height, width, self.value_width)),
        )

    def read(self, state: TemporalState, z: jax.Array) -> TemporalReading:
        """What is remembered about a slice with features (B, H, W, C)."""
        chex.assert_rank(z, 4)
        chex.assert_equal_shape_prefix((z, state.hidden), 3)
        key = self.key(z)
        recalled = self.recall(state, key)
        return TemporalReading(key, self.recurrent(_concatenate(recalled, z), state.hidden))

    def recall(self, state: TemporalState, key: jax.Array) -> jax.Array:
        """The stored values, weighted by how near their keys are; zero where nothing is stored."""
        batch, slices, height, width, channels = state.keys.shape
        weights = distance_attention(
            key.reshape(batch, height * width, channels),
            state.keys.reshape(batch, slices * height * width, channels),
            jnp.repeat(state.stored, height * width, axis=1),
        )
        by_slice = weights.reshape(batch, height, width, slices, height * width).sum(axis=-1)
        self.sow("intermediates", "temporal_attention", by_slice)
        values = state.values.reshape(batch, slices * height * width, self.value_width)
        return jnp.einsum("bqm,bmv->bqv", weights, values).reshape(batch, height, width, self.value_width)

    def write(
        self,
        state: TemporalState,
        z: jax.Array,
        *,
        reading: TemporalReading,
        mask: jax.Array,
        valid: jax.Array,
    ) -> TemporalState:
        """Remembers a slice: what was read for it, its features (B, H, W, C), and its mask (B, H, W, targets)."""
        chex.assert_equal_shape_prefix((z, mask, reading.key), 3)
        chex.assert_shape(valid, z.shape[:1])
        value = self.value(_concatenate(z, mask))
        new = TemporalState(
            keys=push(state.keys, reading.key),
            values=push(state.values, value),
            stored=push(state.stored, jnp.ones_like(valid)),
            hidden=reading.result,
        )
        return keep_where_padded(valid, new, state)


class SpatialMemory(nn.Module):
    """Learned prototypes of anatomy, copied for each subject and slowly adapted to it.

    Reading: every position attends to the P slots, r = softmax_slots(q(z) k(m)^T / sqrt(width)) v(m).
    Writing: every position hands its content to the slots that it resembles, the slots competing for it,

        a = softmax_slots(w(z) m^T / sqrt(width)),  c_p = sum_i a_ip w(z_i) / sum_i a_ip,
        m' = m + sigmoid(gate[m, c]) (c - m),

    with a gate that starts nearly shut: anatomy is what stays.

    The weight that each position gave to each prototype when reading, (B, H, W, P), is sown as `spatial_attention`.
    """

    prototypes: int
    width: int
    dtype: Any = None

    def setup(self) -> None:
        self.prototype = self.param("prototype", nn.initializers.normal(1.0), (self.prototypes, self.width))
        self.query = Conv(self.width, 1, dtype=self.dtype)
        self.key = _linear(self.width, self.dtype)
        self.value = _linear(self.width, self.dtype)
        self.content = Conv(self.width, 1, dtype=self.dtype)
        self.gate = _linear(self.width, self.dtype, bias=SLOW_GATE_BIAS)

    def initial(self, batch: int) -> SpatialState:
        """The learned prototypes, a copy for each subject."""
        return SpatialState(jnp.broadcast_to(self.prototype, (batch, *self.prototype.shape)))

    def read(self, state: SpatialState, z: jax.Array) -> jax.Array:
        """(B, H, W, C) -> (B, H, W, width), float32."""
        chex.assert_rank((z, state.slots), (4, 3))
        chex.assert_equal_shape_prefix((z, state.slots), 1)
        batch, height, width, _ = z.shape
        attention = _attention(_tokens(self.query(z)), self.key(state.slots))
        self.sow("intermediates", "spatial_attention", attention.reshape(batch, height, width, self.prototypes))
        values = at_least_float32(self.value(state.slots))
        return jnp.einsum("bip,bpd->bid", attention, values).reshape(batch, height, width, self.width)

    def write(self, state: SpatialState, z: jax.Array, *, valid: jax.Array) -> SpatialState:
        """Adapts the slots to a slice's features (B, H, W, C), where `valid` (B,) says that it is one."""
        tokens = at_least_float32(_tokens(self.content(z)))
        shares = _attention(tokens, state.slots)
        total = jnp.einsum("bip,bid->bpd", shares, tokens)
        content = total / (shares.sum(axis=1)[..., None] + 1e-6)
        gate = nn.sigmoid(at_least_float32(self.gate(_concatenate(state.slots, content))))
        new = SpatialState(state.slots + gate * (content - state.slots))
        return keep_where_padded(valid, new, state)


class MemoryGate(nn.Module):
    """g = sigmoid(conv3x3[z, r_t, r_s]); g r_t + (1 - g) r_s, for every position and channel; g is sown as `gate`."""

    dtype: Any = None

    @nn.compact
    def __call__(self, z: jax.Array, temporal: jax.Array, spatial: jax.Array) -> jax.Array:
        chex.assert_equal_shape_prefix((z, temporal, spatial), 3)
        chex.assert_equal_shape((temporal, spatial))
        everything = jnp.concatenate([z, temporal.astype(z.dtype), spatial.astype(z.dtype)], axis=-1)
        balance = Conv(temporal.shape[-1], dtype=self.dtype, name="balance")(everything)
        gate = nn.sigmoid(at_least_float32(balance))
        self.sow("intermediates", "gate", gate)
        return gate * temporal + (1.0 - gate) * spatial


def _linear(features: int, dtype: Any, bias: float = 0.0) -> nn.Dense:
    return nn.Dense(features, dtype=dtype, kernel_init=TORCH_KERNEL, bias_init=nn.initializers.constant(bias))


def _tokens(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, H W, C)."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _attention(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """softmax_keys(q.k / sqrt(C)): (B, Q, C), (B, K, C) -> (B, Q, K), float32."""
    wide = jnp.result_type(queries, keys, jnp.float32)
    products = jnp.einsum("bqc,bkc->bqk", queries, keys, preferred_element_type=wide)
    return jax.nn.softmax(products / jnp.sqrt(float(queries.shape[-1])), axis=-1)


def _concatenate(first: jax.Array, second: jax.Array) -> jax.Array:
    """Side by side along channels, in the wider type of the two."""
    return jnp.concatenate([first, second], axis=-1)
