"""How the log is cut into tiles: paths in one spelling, bundles of entries."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.tiles import (
    TILE_WIDTH,
    Tile,
    decode_entries,
    encode_entries,
    parse_tile_path,
)
from hashshare.errors import MalformedError

LARGEST_INDEX = 10**15 - 1
tiles = st.builds(
    Tile,
    level=st.none() | st.integers(0, 63),
    index=st.integers(0, 3000) | st.integers(0, LARGEST_INDEX),
    width=st.integers(1, TILE_WIDTH),
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(1, 1234067), "1/x001/x234/067"),  # the example of tlog-tiles
        (Tile(None, 1000), "entries/x001/000"),
        (Tile(None, 273, 112), "entries/273.p/112"),
        (Tile(63, LARGEST_INDEX, 255), "63/x999/x999/x999/x999/999.p/255"),
    ],
)
def test_paths(tile: Tile, path: str) -> None:
    """As the specification writes them."""
    assert tile.path() == path
    assert parse_tile_path(path) == tile


@given(tiles)
def test_a_path_is_read_as_it_was_written(tile: Tile) -> None:
    """Printing and parsing are inverse, and no index goes beyond 64 bits."""
    assert parse_tile_path(tile.path()) == tile
    assert tile.first == tile.index * 256
    assert tile.first + tile.width < 2**63


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0/",
        "/000",
        "0/0",
        "0/00",
        "0/0000",
        "0/x000/000",  # a group too many
        "0/000/000",
        "0/x001",
        "0/1000",
        "0/x1/000",
        "00/000",
        "-1/000",
        "64/000",
        "data/000",
        "ENTRIES/000",
        "0/000.p/0",
        "0/000.p/01",
        "0/000.p/256",  # a whole tile has no width in its path
        "0/000.p/257",
        "0/000.p/999",
        "0/000.p/",
        "0/000.p/1/",
        "0/000\n",
        "0/000.p/1\n",
        "0/٠٠٠",
        "0/x001/x000/x000/x000/x000/000",  # more than 15 digits
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    """A tile has one path, so that it is cached once; and a partial tile is smaller than 256."""
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@given(st.text() | st.text("0123456789x/.pentris", max_size=40))
def test_any_text_is_a_path_or_malformed(text: str) -> None:
    """No other error comes out, and what is accepted prints as it was."""
    with suppress(MalformedError):
        tile = parse_tile_path(text)
        assert tile.path() == text
        assert 1 <= tile.width <= TILE_WIDTH


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_entries_are_read_as_they_were_written(entries: list[bytes]) -> None:
    """The number of entries is known from the tile; any other is refused."""
    data = encode_entries(entries)

    assert decode_entries(data, count=len(entries)) == entries
    for wrong in (len(entries) - 1, len(entries) + 1):
        if data:
            with pytest.raises(MalformedError):
                decode_entries(data, count=wrong)


def test_the_form_of_a_bundle() -> None:
    """Two bytes of length, big-endian, up to the longest entry."""
    assert encode_entries([b"", b"ab"]) == b"\0\0\0\2ab"
    longest = bytes(65_535)
    assert decode_entries(encode_entries([longest]), count=1) == [longest]


@given(st.binary(max_size=60), st.integers(0, 30))
def test_any_bytes_are_a_bundle_or_malformed(data: bytes, count: int) -> None:
    """No other error comes out, and what is accepted is written as it was."""
    with suppress(MalformedError):
        entries = decode_entries(data, count=count)
        assert len(entries) == count
        assert encode_entries(entries) == data


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\2a", b"\0\1ab", b"\xff\xff" + bytes(65_534)])
def test_other_bundles_are_refused(data: bytes) -> None:
    """Truncated, or with bytes after the end."""
    with pytest.raises(MalformedError):
        decode_entries(data, count=1)
