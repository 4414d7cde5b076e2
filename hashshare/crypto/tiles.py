"""Tiles: how the log is cut into files that never change.

Source: C2SP tlog-tiles.
"""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hashshare.errors import MalformedError

TILE_WIDTH: Final = 256

_LEVEL: Final = re.compile(r"entries|0|[1-9]|[1-5][0-9]|6[0-3]")
# 15 digits are enough for a log of 2^57 leaves, and keep every index within 64 bits.
_PATH: Final = re.compile(r"((?:x[0-9]{3}/){0,4})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """A run of up to 256 nodes of one stored level, or of entries.

    Attributes:
        level: Of nodes, each over 256 of the level below; None for entries.
        index: Counts tiles of the level from 0.
        width: How many it holds, 1 to 256; less than 256 only at the end of the log.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Return its path below ``tile/``."""
        level = "entries" if self.level is None else str(self.level)
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{level}/{number}{partial}"

    @property
    def first(self) -> int:
        """Index of its first node or entry, at its level."""
        return self.index * TILE_WIDTH


def parse_tile_path(text: str) -> Tile:
    """Read what ``Tile.path`` writes.

    Raises:
        MalformedError: ``text`` is not the one spelling of a tile's path.
    """
    level, _, rest = text.partition("/")
    match = _PATH.fullmatch(rest)
    if not _LEVEL.fullmatch(level) or match is None:
        raise MalformedError(f"not a tile: {text!r:.80}")
    index = int(match[1].replace("x", "").replace("/", "") + match[2])
    width = int(match[3] or TILE_WIDTH)
    tile = Tile(None if level == "entries" else int(level), index, width)
    if width > TILE_WIDTH or tile.path() != text:
        raise MalformedError(f"not the canonical path of a tile: {text!r:.80}")
    return tile


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return a bundle: each entry after its length, 2 bytes, big-endian."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def decode_entries(data: bytes, *, count: int) -> list[bytes]:
    """Read a bundle of exactly ``count`` entries.

    Raises:
        MalformedError: ``data`` is not that.
    """
    entries, offset = [], 0
    for _ in range(count):
        if offset + 2 > len(data):
            raise MalformedError("the bundle of entries is truncated")
        (length,) = struct.unpack_from(">H", data, offset)
        entries.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    if offset != len(data):
        raise MalformedError("the bundle of entries is truncated, or too long")
    return entries
