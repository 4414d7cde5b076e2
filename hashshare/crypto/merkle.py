"""The Merkle tree of RFC 9162 section 2.1, over SHA-256.

``D[a:b]`` is the list of leaves from ``a`` (included) to ``b`` (not included), and ``MTH`` its
tree hash. A proof is given here as the ranges whose tree hashes it consists of, so that the
same few lines serve every way of storing nodes.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from hashshare.errors import MalformedError, ProofInvalidError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

TILE_HEIGHT: Final = 8
"""Stored nodes are those at every eighth level, as in C2SP tlog-tiles."""

Range = tuple[int, int]
ReadNode = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf with this content."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return MTH of leaves with these hashes."""
    frontier = Frontier()
    for value in hashes:
        frontier = frontier.append(value)
    return frontier.root()


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is enough to append to a tree: the roots of its complete subtrees.

    Attributes:
        size: Number of leaves.
        hashes: One for each bit that is set in ``size``, the largest subtree first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """Return the frontier with one more leaf, given as its leaf hash."""
        hashes, size = list(self.hashes), self.size
        while size & 1:
            leaf = node_hash(hashes.pop(), leaf)
            size >>= 1
        return Frontier(self.size + 1, (*hashes, leaf))

    def root(self) -> bytes:
        """Return MTH of all leaves."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def encode(self) -> bytes:
        """Return the hashes one after another; ``size`` is kept beside them."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> Self:
        """Read what ``encode`` gives for a tree of ``size`` leaves.

        Raises:
            MalformedError: ``data`` does not fit ``size``.
        """
        if size < 0 or len(data) != HASH_BYTES * size.bit_count():
            raise MalformedError(f"not the frontier of a tree of size {size}")
        return cls(size, tuple(_cut(data)))


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges that prove leaf ``index`` in a tree of ``size``, leaf to root.

    Source: RFC 9162 section 2.1.3.1 (PATH).
    """
    return _path(index, 0, size)


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Return the ranges that prove that a tree of ``new`` leaves extends one of ``old``.

    Source: RFC 9162 section 2.1.4.1 (PROOF). Empty if ``old`` is 0 or ``new``.
    """
    return _subproof(old, 0, new, complete=True) if 0 < old < new else []


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Refuse a proof that does not lead from a leaf hash to the root.

    Args:
        leaf: Leaf hash.
        index: Its place, below ``size``.
        size: Of the tree.
        proof: Leaf to root.
        root: From a signed checkpoint.

    Raises:
        ProofInvalidError: It does not, or it is too short or too long.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofInvalidError(f"no leaf {index} in a tree of size {size}")
    fn, sn, value = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise ProofInvalidError("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            value = node_hash(sibling, value)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn or value != root:
        raise ProofInvalidError("the inclusion proof does not lead to the root")


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Refuse a proof that does not show the new tree to extend the old one.

    Raises:
        ProofInvalidError: It does not, or it is too short or too long.

    Source: RFC 9162 section 2.1.4.2.
    """
    if not 0 <= old_size <= new_size:
        raise ProofInvalidError(f"no proof from size {old_size} to {new_size}")
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise ProofInvalidError("an empty tree has another root")
    if old_size in (0, new_size):
        if proof or (old_size and old_root != new_root):
            raise ProofInvalidError("trees of these sizes need an empty proof and equal roots")
        return
    if not proof:
        raise ProofInvalidError("the consistency proof is empty")
    # A tree of 2^k leaves is itself the first node of the proof.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if _consistent_roots(old_size, new_size, path) != (old_root, new_root):
        raise ProofInvalidError("the consistency proof does not lead to both roots")


def _consistent_roots(
    old_size: int, new_size: int, path: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the roots of both trees that ``path`` leads to, None if its length is wrong."""
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return None if sn else (old, new)


def nodes_of_range(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the stored nodes that make up ``D[start:end]``, left to right.

    Args:
        start: A multiple of the largest power of two that is not over ``end - start``, as
            it is for every range of a proof.
        end: Not included.

    Yields:
        Level (of stored nodes), first index, and last index, which is not included.
    """
    while start < end:
        # The largest complete subtree that starts here and fits.
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        level = height // TILE_HEIGHT
        first = start >> (TILE_HEIGHT * level)
        yield level, first, first + (1 << (height - TILE_HEIGHT * level))
        start += 1 << height


def root_of_range(start: int, end: int, read: ReadNode) -> bytes:
    """Return MTH(``D[start:end]``).

    Args:
        start: See ``nodes_of_range``.
        end: Not included.
        read: Gives the stored node at a level and index.
    """
    roots = [
        root_of([read(level, index) for index in range(first, last)])
        for level, first, last in nodes_of_range(start, end)
    ]
    if not roots:
        return EMPTY_ROOT
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = node_hash(left, root)
    return root


def completed_nodes(size: int) -> Iterator[tuple[int, int]]:
    """Yield the stored nodes above the leaves that the leaf number ``size - 1`` completes.

    Each is MTH over the 256 nodes below it; lower levels come first.
    """
    level = 1
    while size and size % (1 << (TILE_HEIGHT * level)) == 0:
        yield level, (size >> (TILE_HEIGHT * level)) - 1
        level += 1


def _path(index: int, start: int, end: int) -> list[Range]:
    if end - start <= 1:
        return []
    middle = start + _split(end - start)
    if index < middle - start:
        return [*_path(index, start, middle), (middle, end)]
    return [*_path(index - (middle - start), middle, end), (start, middle)]


def _subproof(old: int, start: int, end: int, *, complete: bool) -> list[Range]:
    if old == end - start:
        return [] if complete else [(start, end)]
    half = _split(end - start)
    if old <= half:
        return [*_subproof(old, start, start + half, complete=complete), (start + half, end)]
    rest = _subproof(old - half, start + half, end, complete=False)
    return [*rest, (start, start + half)]


def _split(size: int) -> int:
    """Return the largest power of two that is smaller than ``size``, which is over 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))
