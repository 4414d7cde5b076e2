"""Entries of a list as columns: how many at once are moved and checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Bytes: TypeAlias = "npt.NDArray[np.uint8]"
Numbers: TypeAlias = "npt.NDArray[np.uint32]"


@dataclass(frozen=True, slots=True, eq=False)
class EntryChunk:
    """Some entries of a list, in key order.

    Attributes:
        values: The hashes, one a row, each as long as its algorithm says.
        attribute_ids: For each, an index into ``attributes``.
        attributes: Distinct attributes, canonical JSON.
    """

    values: Bytes
    attribute_ids: Numbers
    attributes: list[bytes]

    def __len__(self) -> int:
        return len(self.values)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each value with its attributes."""
        size = self.values.shape[1]
        data = self.values.tobytes()
        for number, attribute_id in enumerate(self.attribute_ids.tolist()):
            yield data[number * size : (number + 1) * size], self.attributes[attribute_id]
