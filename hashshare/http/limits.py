"""How much one member, or one address, may ask for."""

import math
from dataclasses import dataclass, field
from time import monotonic

from hashshare.errors import TooManyRequestsError

_MAX_KEPT = 10_000


@dataclass(slots=True)
class RateLimit:
    """A token bucket for each caller.

    Attributes:
        per_second: Requests that are allowed in the long run.
        burst: Requests that are allowed at once.
    """

    per_second: float
    burst: float
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, caller: str, *, cost: float = 1.0) -> None:
        """Count one request of ``caller``.

        Raises:
            TooManyRequestsError: It has to wait; says how long.
        """
        now = monotonic()
        level, at = self._levels.get(caller, (self.burst, now))
        level = min(self.burst, level + (now - at) * self.per_second)
        if level < cost:
            wait = math.ceil((cost - level) / self.per_second)
            raise TooManyRequestsError(retry_after_seconds=max(1, wait))
        if len(self._levels) >= _MAX_KEPT:
            # Forgets all: who called lately is given a new burst, and memory is bounded.
            self._levels.clear()
        self._levels[caller] = (level - cost, now)
