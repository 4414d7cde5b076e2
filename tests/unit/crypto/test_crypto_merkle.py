"""The tree of RFC 9162, against the RFC's own recursive definitions."""

import hashlib
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import merkle
from hashshare.crypto.merkle import EMPTY_ROOT, Frontier
from hashshare.errors import MalformedError, ProofInvalidError

SMALL = 600
LARGE = 70_000
# All sizes around the first borders of tiles, and a spread of others.
SIZES = [*range(131), 254, 255, 256, 257, 258, 383, 384, 385, 511, 512, 513, 599, SMALL]

Range = tuple[int, int]


@cache
def _leaf(index: int) -> bytes:
    return hashlib.sha256(b"\x00" + index.to_bytes(4, "big")).digest()


@cache
def _tree(start: int, end: int) -> bytes:
    """MTH(D[start:end]), section 2.1.1."""
    if start == end:
        return hashlib.sha256().digest()
    if end - start == 1:
        return _leaf(start)
    k = _largest_power_below(end - start)
    return hashlib.sha256(b"\x01" + _tree(start, start + k) + _tree(start + k, end)).digest()


def _path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[start:end]), section 2.1.3.1."""
    if end - start == 1:
        return []
    k = _largest_power_below(end - start)
    if m < k:
        return [*_path(m, start, start + k), _tree(start + k, end)]
    return [*_path(m - k, start + k, end), _tree(start, start + k)]


def _proof(m: int, start: int, end: int, *, complete: bool) -> list[bytes]:
    """SUBPROOF(m, D[start:end], complete), section 2.1.4.1."""
    if m == end - start:
        return [] if complete else [_tree(start, end)]
    k = _largest_power_below(end - start)
    if m <= k:
        return [*_proof(m, start, start + k, complete=complete), _tree(start + k, end)]
    return [*_proof(m - k, start + k, end, complete=False), _tree(start, start + k)]


def _largest_power_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def _read_of(size: int) -> Callable[[int, int], bytes]:
    """Return a reader of the nodes that a log of ``size`` leaves has stored."""

    def read(level: int, index: int) -> bytes:
        width = 256**level
        assert 0 <= index < size // width, "no such node is stored"
        return _tree(index * width, (index + 1) * width)

    return read


def _inclusion(index: int, size: int) -> list[bytes]:
    return [_tree(*span) for span in merkle.inclusion_ranges(index, size)]


def _consistency(old: int, new: int) -> list[bytes]:
    return [_tree(*span) for span in merkle.consistency_ranges(old, new)]


def _verify_inclusion(
    index: int,
    size: int,
    proof: list[bytes],
    *,
    leaf: bytes | None = None,
    root: bytes | None = None,
) -> None:
    """Verify against the tree's own leaf and root, or the ones that are given."""
    merkle.verify_inclusion(
        _leaf(index) if leaf is None else leaf,
        index=index,
        size=size,
        proof=proof,
        root=_tree(0, size) if root is None else root,
    )


def _verify_consistency(
    old: int,
    new: int,
    proof: list[bytes],
    *,
    old_root: bytes | None = None,
    new_root: bytes | None = None,
) -> None:
    """Verify against the trees' own roots, or the ones that are given."""
    merkle.verify_consistency(
        old_size=old,
        old_root=_tree(0, old) if old_root is None else old_root,
        new_size=new,
        new_root=_tree(0, new) if new_root is None else new_root,
        proof=proof,
    )


VECTOR_LEAVES = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
VECTOR_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(9))
def test_the_vectors_of_certificate_transparency(size: int) -> None:
    """The eight leaves that logs have been tested with since RFC 6962."""
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTOR_LEAVES[:size]]

    assert merkle.root_of(leaves).hex() == VECTOR_ROOTS[size]


def test_every_root() -> None:
    """Of all sizes, appending one leaf at a time; the frontier can be kept and taken up again."""
    frontier = Frontier()
    for size in range(SMALL + 1):
        assert frontier.size == size
        assert frontier.root() == _tree(0, size)
        assert merkle.root_of([_leaf(i) for i in range(size)]) == _tree(0, size)
        assert Frontier.decode(size, frontier.encode()) == frontier
        frontier = frontier.append(_leaf(size))


@pytest.mark.parametrize(
    ("size", "length"), [(0, 32), (1, 0), (1, 31), (1, 33), (1, 64), (3, 32), (4, 64), (-1, 32)]
)
def test_a_frontier_fits_its_size(size: int, length: int) -> None:
    """One hash for each bit that is set."""
    with pytest.raises(MalformedError):
        Frontier.decode(size, bytes(length))


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof(size: int) -> None:
    """Of every leaf of small trees, and of some of larger ones: it is the RFC's, and holds."""
    indexes = range(size) if size < 131 else {0, 1, 127, 128, 255, 256, size // 2, size - 1}
    for index in indexes:
        if index < size:
            proof = _inclusion(index, size)
            assert proof == _path(index, 0, size)
            _verify_inclusion(index, size, proof)


@pytest.mark.parametrize("new", SIZES)
def test_every_consistency_proof(new: int) -> None:
    """From every smaller tree, the empty one and the same one too."""
    for old in {*range(0, new, 1 if new < 131 else 17), new}:
        proof = _consistency(old, new)
        assert proof == (_proof(old, 0, new, complete=True) if old else [])
        _verify_consistency(old, new, proof)


sizes = st.integers(1, SMALL) | st.integers(1, LARGE)


@given(sizes, st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, draw: st.DataObject) -> None:
    """Whatever is changed: a bit, the length, the order, the place, the leaf, the root."""
    index = draw.draw(st.integers(0, size - 1))
    proof = _inclusion(index, size)
    _verify_inclusion(index, size, proof)
    wrong = [[*proof, proof[-1] if proof else _leaf(0)], [_leaf(0), *proof]]
    for place, value in enumerate(proof):
        bit = draw.draw(st.integers(0, 255))
        flipped = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(32, "big")
        wrong.append([*proof[:place], flipped, *proof[place + 1 :]])
        wrong.append([*proof[:place], *proof[place + 1 :]])
        wrong.append([*proof[:place], value[:31], *proof[place + 1 :]])
    for candidate in wrong:
        with pytest.raises(ProofInvalidError):
            _verify_inclusion(index, size, candidate)
    for other in ({"leaf": _leaf(LARGE)}, {"root": _leaf(0)} if size > 1 else {"root": EMPTY_ROOT}):
        with pytest.raises(ProofInvalidError):
            _verify_inclusion(index, size, proof, **other)


@given(sizes, st.data())
def test_an_inclusion_proof_is_for_one_place(size: int, draw: st.DataObject) -> None:
    """The leaf is not shown to be anywhere else."""
    index, other = draw.draw(st.integers(0, size - 1)), draw.draw(st.integers(-2, size + 2))
    if other != index:
        with pytest.raises(ProofInvalidError):
            _verify_inclusion(other, size, _inclusion(index, size), leaf=_leaf(index))


@given(sizes, sizes, st.data())
def test_a_changed_consistency_proof_is_refused(a: int, b: int, draw: st.DataObject) -> None:
    """Whatever is changed: a bit, the length, either root."""
    old, new = sorted((a, b))
    proof = _consistency(old, new)
    _verify_consistency(old, new, proof)
    wrong = [[*proof, _leaf(0)], [_leaf(0), *proof]]
    for place, value in enumerate(proof):
        bit = draw.draw(st.integers(0, 255))
        flipped = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(32, "big")
        wrong.append([*proof[:place], flipped, *proof[place + 1 :]])
        wrong.append([*proof[:place], *proof[place + 1 :]])
        wrong.append([*proof[:place], value + b"\0", *proof[place + 1 :]])
    for candidate in wrong:
        with pytest.raises(ProofInvalidError):
            _verify_consistency(old, new, candidate)
    for which in ("old_root", "new_root"):
        with pytest.raises(ProofInvalidError):
            _verify_consistency(old, new, proof, **{which: _leaf(LARGE)})


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1), (-1, -1), (0, -1), (1, 0)])
def test_a_log_does_not_shrink(old: int, new: int) -> None:
    """No proof from larger to smaller, nor of sizes that do not exist, even with equal roots."""
    for proof in ([], [_leaf(0)]):
        with pytest.raises(ProofInvalidError):
            _verify_consistency(old, new, proof, old_root=EMPTY_ROOT, new_root=EMPTY_ROOT)


def test_the_empty_tree_has_one_root() -> None:
    """Also when both are empty."""
    _verify_consistency(0, 0, [])
    _verify_consistency(0, 5, [])
    for wrong in ({"old_root": _leaf(0)}, {"new_root": _leaf(0)}):
        with pytest.raises(ProofInvalidError):
            _verify_consistency(0, 0, [], **wrong)
    with pytest.raises(ProofInvalidError):
        _verify_consistency(0, 5, [], old_root=_leaf(0))
    with pytest.raises(ProofInvalidError):
        _verify_consistency(0, 5, [_leaf(0)])


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(-1, 2**64),
    st.integers(-1, 2**64),
    st.lists(st.binary(max_size=40), max_size=70),
)
def test_any_proof_holds_or_is_refused(leaf: bytes, a: int, b: int, proof: list[bytes]) -> None:
    """No other error comes out, whatever the numbers."""
    with pytest.raises(ProofInvalidError):
        _verify_inclusion(a, b, proof, leaf=leaf, root=_leaf(0))
    with pytest.raises(ProofInvalidError):
        _verify_consistency(a, b, proof, old_root=leaf, new_root=_leaf(0))


@pytest.mark.parametrize("size", SIZES)
def test_roots_from_stored_nodes(size: int) -> None:
    """Of the whole tree, and of every range of its proofs."""
    read = _read_of(size)

    assert merkle.root_of_range(0, size, read) == _tree(0, size)
    for other in {0, 1, size // 3, size // 2, size - 1}:
        if 0 <= other < size:
            spans = merkle.inclusion_ranges(other, size) + merkle.consistency_ranges(other, size)
            for start, end in spans:
                assert merkle.root_of_range(start, end, read) == _tree(start, end)


@given(st.integers(0, LARGE), st.data())
def test_roots_from_stored_nodes_of_large_trees(size: int, draw: st.DataObject) -> None:
    """They exist, lie side by side, are on the highest level possible, and are few."""
    read = _read_of(size)
    index = draw.draw(st.integers(0, max(size - 1, 0)))
    spans = [(0, size), *merkle.inclusion_ranges(index, size)] if size else [(0, 0)]
    for start, end in [*spans, *merkle.consistency_ranges(index, size)]:
        assert merkle.root_of_range(start, end, read) == _tree(start, end)
        place = start
        for level, first, last in merkle.nodes_of_range(start, end):
            width = 256**level
            assert first * width == place
            assert 0 < last - first < 256, "a whole tile is one node of the level above"
            place = last * width
        assert place == end


def test_a_large_root() -> None:
    """Appending 70,000 leaves gives what three levels of stored nodes give."""
    frontier = Frontier()
    for index in range(LARGE):
        frontier = frontier.append(_leaf(index))

    assert frontier.root() == merkle.root_of_range(0, LARGE, _read_of(LARGE)) == _tree(0, LARGE)


def test_every_node_is_completed_once() -> None:
    """Going through all sizes gives each node above the leaves, when its last leaf comes."""
    completed = [(size, node) for size in range(LARGE + 1) for node in merkle.completed_nodes(size)]

    expected = [
        ((index + 1) * 256**level, (level, index))
        for level in (1, 2)
        for index in range(LARGE // 256**level)
    ]
    assert sorted(completed) == sorted(expected)
    assert list(merkle.completed_nodes(2**24)) == [(1, 2**16 - 1), (2, 2**8 - 1), (3, 0)]
    assert list(merkle.completed_nodes(0)) == []


def test_a_completed_node_is_over_the_256_below() -> None:
    """So that it is computed from one tile."""
    read = _read_of(65_536)
    for level, index in merkle.completed_nodes(65_536):
        below = [read(level - 1, 256 * index + i) for i in range(256)]
        assert merkle.root_of(below) == read(level, index)


def test_leaves_and_nodes_are_told_apart() -> None:
    """A leaf that looks like two hashes has another hash than the node over them."""
    left, right = _leaf(0), _leaf(1)

    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
