"""zstd as it comes from the network: one frame, nothing after it, and never more than allowed."""

from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

from hashshare.errors import MalformedError, TooLargeError

MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""What RFC 8878 section 3.1.1.1.2 recommends that every decoder supports."""

# A block of 128 KiB takes four bytes when it is all the same, so that this many bytes inflate
# to at most 32 MiB before the total is looked at.
_SLICE_BYTES: Final = 1024


class Inflater:
    """Inflates one zstd frame that comes in pieces.

    Attributes:
        size: Bytes that came out so far.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._frame = decompressor.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` inflates to.

        Raises:
            MalformedError: It is not zstd, or goes on after the frame's end.
            TooLargeError: More than ``max_bytes`` came out.
        """
        for begin in range(0, len(data), _SLICE_BYTES):
            if self._frame.eof:
                raise MalformedError("something follows the end of the zstd frame")
            try:
                inflated = self._frame.decompress(data[begin : begin + _SLICE_BYTES])
            except zstandard.ZstdError as error:
                raise MalformedError("not a zstd frame, or one with a large window") from error
            if self._frame.unused_data:
                raise MalformedError("something follows the end of the zstd frame")
            self.size += len(inflated)
            if self.size > self._max_bytes:
                raise TooLargeError(f"more than {self._max_bytes} bytes once decompressed")
            if inflated:
                yield inflated

    def finish(self) -> None:
        """Refuse a frame that has not ended.

        Raises:
            MalformedError: It was truncated.
        """
        if not self._frame.eof:
            raise MalformedError("the zstd frame is truncated")


def inflate(chunks: Iterable[bytes], *, max_bytes: int) -> Iterator[bytes]:
    """Yield what one zstd frame inflates to.

    Raises:
        MalformedError: It is not exactly one frame.
        TooLargeError: More than ``max_bytes`` came out.
    """
    inflater = Inflater(max_bytes=max_bytes)
    for chunk in chunks:
        yield from inflater.feed(chunk)
    inflater.finish()
