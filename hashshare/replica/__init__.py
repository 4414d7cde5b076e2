"""A replica: verified local copies of lists in one SQLite file, kept as buckets.

Used by the publisher, which signs the roots that this code computes, and by members. What writes
is imported when something is written: it takes numpy, and a look-up does not.
"""

from hashshare.replica.file import Replica
from hashshare.replica.reading import BucketProof, Reading
from hashshare.replica.store import ListState

__all__ = ["BucketProof", "ListState", "Reading", "Replica"]
