"""Graph convolution on feature maps of modality groups, as `jaxstroke.models.nn.graph`.

Maps of the groups come stacked: (B, G, C, H, W).  Nodes are numbered group by group and, within one, row by row, in
both libraries; what differs is that here channels stand before the nodes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxstroke.torch_twin.nn.blocks import Conv


class GraphConvolution(nn.Module):
    """relu(W(G - A(G))) on (B, N, E): A is a convolution along the nodes, W one along the features."""

    def __init__(self, nodes: int, width: int) -> None:
        super().__init__()
        self.adjacency = nn.Conv1d(nodes, nodes, 1)
        self.weight = nn.Conv1d(width, width, 1)

    def forward(self, graph: Tensor) -> Tensor:
        laplacian = graph - self.adjacency(graph)
        return F.relu(self.weight(laplacian.transpose(1, 2)).transpose(1, 2))


class ChannelGraph(nn.Module):
    """Each node is one learned weighting of the whole map: (B, G, C, H, W) -> the same shape."""

    def __init__(self, channels: int, groups: int, nodes: int, embedding: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.theta = Conv(channels, nodes, 1)
        self.phi = Conv(channels, embedding, 1)
        self.graph = GraphConvolution(groups * nodes, embedding)
        self.back = Conv(embedding, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, groups, _, height, width = x.shape
        maps = x.flatten(0, 1)
        theta = self.theta(maps).flatten(2)  # (B G, nodes, pixels)
        phi = self.phi(maps).flatten(2)
        graph = theta @ phi.transpose(1, 2) / (height * width)  # (B G, nodes, embedding)
        graph = self.graph(graph.reshape(batch, groups * self.nodes, -1))
        graph = graph.reshape(batch * groups, self.nodes, -1)
        back = graph.transpose(1, 2) @ theta  # (B G, embedding, pixels)
        update = self.back(back.unflatten(2, (height, width)))
        return x + update.unflatten(0, (batch, groups))


class SpaceGraph(nn.Module):
    """Each node is one pixel of the map, with a learned position tensor shared by the groups."""

    def __init__(self, channels: int, groups: int, pixels: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(channels, pixels))
        self.graph = GraphConvolution(groups * pixels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, groups, channels, height, width = x.shape
        tokens = x.flatten(3) + self.position.to(x.dtype)
        graph = self.graph(tokens.transpose(2, 3).reshape(batch, -1, channels))
        return x + graph.reshape(batch, groups, height, width, channels).permute(0, 1, 4, 2, 3)
