"""Graph convolution on feature maps of modality groups (MDANet's graph convolution fusion block).

Maps of the groups come stacked: (B, G, H, W, C).  The nodes of all groups form one graph, so that a convolution on it
exchanges features between the modalities.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxstroke.models.nn.blocks import TORCH_KERNEL, Conv


class GraphConvolution(nn.Module):
    """relu(W(G - A(G))) on a graph of N nodes of width E: (B, N, E) -> (B, N, E), MDANet eqs 6 and 7.

    A, the learned adjacency, is a 1 x 1 convolution with bias along the nodes (N to N); W is one along the features
    (E to E): the two one-dimensional convolutions of the paper's Fig. 7.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, graph: jax.Array) -> jax.Array:
        chex.assert_rank(graph, 3)
        nodes, width = graph.shape[-2:]
        neighbours = self._dense(nodes, "adjacency")(jnp.swapaxes(graph, -1, -2))
        laplacian = graph - jnp.swapaxes(neighbours, -1, -2)
        return nn.relu(self._dense(width, "weight")(laplacian))

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=TORCH_KERNEL, dtype=self.dtype, name=name)


class ChannelGraph(nn.Module):
    """GCFB(channel): each node is one learned weighting of the whole map, MDANet eqs 4 and 5.

    With theta: C -> N and phi: C -> E, shared by the groups, G = theta(F) phi(F)^T / (H W) per group; the graphs are
    joined to G x N nodes, convolved, brought back by G^T theta(F), and a 1 x 1 convolution E -> C is added to F.
    The division by the number of pixels (ours) keeps the graph's scale independent of the size of the map; the last
    convolution and the residual are ours as well.
    """

    nodes: int
    embedding: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 5)
        batch, groups, height, width, channels = x.shape
        theta = self._flat(Conv(self.nodes, 1, dtype=self.dtype, name="theta")(x))
        phi = self._flat(Conv(self.embedding, 1, dtype=self.dtype, name="phi")(x))
        graph = jnp.einsum("bgpn,bgpe->bgne", theta, phi) / (height * width)
        graph = graph.reshape(batch, groups * self.nodes, self.embedding)
        graph = GraphConvolution(self.dtype, name="graph")(graph)
        graph = graph.reshape(batch, groups, self.nodes, self.embedding)
        back = jnp.einsum("bgne,bgpn->bgpe", graph, theta)
        update = Conv(channels, 1, dtype=self.dtype, name="back")(back.reshape(*x.shape[:-1], self.embedding))
        self.sow("intermediates", "channel_graph_update", update)
        return x + update

    def _flat(self, x: jax.Array) -> jax.Array:
        """(B, G, H, W, C) -> (B, G, HW, C), row by row."""
        return x.reshape(*x.shape[:2], -1, x.shape[-1])


class SpaceGraph(nn.Module):
    """GCFB(space): each node is one pixel of the map, with a learned position tensor shared by the groups.

    Both the adjacency and the position tensor are of a fixed number of pixels.  The residual is ours.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 5)
        batch, groups, height, width, channels = x.shape
        tokens = add_position(self, x)
        graph = GraphConvolution(self.dtype, name="graph")(tokens.reshape(batch, -1, channels))
        update = graph.reshape(batch, groups, height, width, channels)
        self.sow("intermediates", "space_graph_update", update)
        return x + update


def add_position(module: nn.Module, x: jax.Array) -> jax.Array:
    """(B, G, H, W, C) -> tokens (B, G, HW, C), row by row, with `module`'s parameter `position` (HW, C) added."""
    *lead, height, width, channels = x.shape
    position = module.param("position", nn.initializers.normal(0.02), (height * width, channels), jnp.float32)
    tokens = x.reshape(*lead, height * width, channels)
    return tokens + jnp.broadcast_to(position.astype(x.dtype), tokens.shape)
