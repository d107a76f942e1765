"""A tree of guesses, and which tree of a size is accepted furthest.

Node 0 is the last code that is known. A node at depth d holds a guess of the code d places further
on, that of one rank, behind the guesses of its ancestors.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nemo_cosmos.errors import ConfigError


@dataclass(frozen=True)
class Tree:
    """The shape of a tree.

    Attributes:
        parents: number of each node's parent, below its own; -1 for the root, node 0.
        ranks: which guess of its code a node holds; the root's means nothing.
    """

    parents: tuple[int, ...] = (-1,)
    ranks: tuple[int, ...] = (0,)

    @property
    def num_nodes(self) -> int:
        """Number of nodes, which is the number of tokens in a pass."""
        return len(self.parents)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Number of each node's ancestors."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each node."""
        found: list[list[int]] = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(node)
        return tuple(map(tuple, found))

    def follow(self, tokens: Sequence[int], drawn: Sequence[int], most: int) -> list[int]:
        """Return the nodes whose tokens are what was drawn, from the root on.

        Args:
            tokens: the token of each node.
            drawn: the code that was drawn behind each node.
            most: most nodes.
        """
        path: list[int] = []
        node: int | None = 0
        while node is not None and len(path) < most:
            path.append(node)
            wanted = drawn[node]
            node = next((child for child in self.children[node] if tokens[child] == wanted), None)
        return path

    def follow_accepted(self, is_accepted: Sequence[bool], most: int) -> list[int]:
        """Return the longest path from the root on whose nodes are all accepted.

        Of several, the one of the best guesses is taken.

        Args:
            is_accepted: whether the guess of each node is accepted; the root is taken in any case.
            most: most nodes.
        """
        best = [0]
        reached = {0}
        for node in range(1, self.num_nodes):
            if is_accepted[node] and self.parents[node] in reached and self.depths[node] < most:
                reached.add(node)
                if self.depths[node] >= len(best):
                    best = self._path_to(node)
        return best if most else []

    def _path_to(self, node: int) -> list[int]:
        path = [node]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path[::-1]


ROOT = Tree()
"""No guesses."""

Acceptance = Sequence[Sequence[float]]
"""How often a code is the guess of each rank, by depth, where those before it were right."""


def grow_tree(acceptance: Acceptance, num_nodes: int) -> Tree:
    """Return the tree with the most codes accepted a pass, if guesses are right independently.

    It grows by the node that is reached most often (Medusa, arXiv 2401.10774, section 2.3.3).

    Args:
        acceptance: as measured.
        num_nodes: most nodes, the root included; what is never accepted is left out.

    Raises:
        ConfigError: there is no room for the root.
    """
    if num_nodes < 1:
        raise ConfigError(f"A tree of {num_nodes} nodes has no root. Choose 1 or more.")
    parents, ranks = [-1], [0]
    open_nodes = _children(acceptance, 0, 0, 1.0)
    heapq.heapify(open_nodes)
    while open_nodes and len(parents) < num_nodes:
        minus_share, depth, rank, parent = heapq.heappop(open_nodes)
        parents.append(parent)
        ranks.append(rank)
        for child in _children(acceptance, depth, len(parents) - 1, -minus_share):
            heapq.heappush(open_nodes, child)
    return Tree(tuple(parents), tuple(ranks))


def expected_codes(tree: Tree, acceptance: Acceptance) -> float:
    """Return how many codes a pass over a tree makes final, by the same assumption."""
    shares = [1.0]
    nodes = zip(tree.parents, tree.ranks, tree.depths, strict=True)
    for parent, rank, depth in list(nodes)[1:]:
        shares.append(shares[parent] * acceptance[depth - 1][rank])
    return sum(shares)


def _children(
    acceptance: Acceptance, depth: int, node: int, share: float
) -> list[tuple[float, int, int, int]]:
    """What may be added below a node: minus its share, depth, rank and parent."""
    rates = acceptance[depth] if depth < len(acceptance) else ()
    return [(-share * rate, depth + 1, rank, node) for rank, rate in enumerate(rates) if rate > 0]
