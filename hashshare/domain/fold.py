"""The fold: what a hash set contains, as a pure function of the submissions in log order.

This is the rule that the SQL is tested against and that an auditor replays. It is written
to be read; it keeps one hash set in memory.

Source: docs/protocol.md, "The fold".
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.policy import Assertion, Dispute, Stance, View, attributes_in
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Hashes,
    Record,
    WithdrawRecord,
)


@dataclass(slots=True)
class Opinion:
    """All that one member has in force on one hash: a dispute, or assertions by record."""

    dispute: Dispute | None = None
    assertions: dict[str, Assertion] = field(default_factory=dict)

    @property
    def stance(self) -> Stance | None:
        """Its dispute, else its latest assertion; the greatest record id decides a tie."""
        if self.dispute is not None:
            return self.dispute
        return max(
            self.assertions.values(), key=lambda a: (a.log_index, a.record.encode()), default=None
        )


@dataclass(slots=True)
class Fold:
    """The state of one hash set after some prefix of the log."""

    opinions: dict[HashValue, dict[MemberId, Opinion]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Opinion))
    )

    def apply(
        self, member: MemberId, records: Iterable[Record], *, log_index: int
    ) -> set[HashValue]:
        """Take in one submission and return the hashes that it may have changed.

        Args:
            member: Who signed it.
            records: Its batch, in order.
            log_index: Its place in the log; greater than that of every one before.
        """
        touched: set[HashValue] = set()
        for record in records:
            match record:
                case AssertRecord():
                    touched |= self._assert(member, record, log_index)
                case WithdrawRecord():
                    touched |= self._withdraw(member, record)
                case DisputeRecord():
                    touched |= self._dispute(member, record, log_index)
        return touched

    def entries(
        self, view: View, algorithm: HashAlgorithm, jurisdictions: Mapping[MemberId, str]
    ) -> dict[bytes, bytes]:
        """Return the contents of one list: values with their attributes as canonical JSON."""
        contents = {}
        for value in self.opinions:
            if value.algorithm is algorithm:
                attributes = attributes_in(view, self.stances(value), jurisdictions)
                if attributes is not None:
                    contents[value.value] = attributes
        return contents

    def stances(self, value: HashValue) -> dict[MemberId, Stance]:
        """Return the present stance of every member that has one on ``value``."""
        opinions = self.opinions.get(value, {})
        stances = {member: opinion.stance for member, opinion in opinions.items()}
        return {member: stance for member, stance in stances.items() if stance is not None}

    def _assert(self, member: MemberId, record: AssertRecord, log_index: int) -> set[HashValue]:
        assertion = Assertion(
            record=record.record,
            classification=record.classification,
            media=record.media,
            basis=record.basis,
            log_index=log_index,
        )
        values = _values(record.hashes)
        for value in values:
            opinion = self.opinions[value][member]
            opinion.dispute = None
            known = opinion.assertions.get(record.record)
            if known is None or not _says_the_same(known, assertion):
                opinion.assertions[record.record] = assertion
        return values

    def _withdraw(self, member: MemberId, record: WithdrawRecord) -> set[HashValue]:
        if not record.record:
            values = _values(record.hashes)
            for value in values:
                self.opinions[value].pop(member, None)
            return values
        touched = set()
        for value, opinions in self.opinions.items():
            if member in opinions and record.record in opinions[member].assertions:
                del opinions[member].assertions[record.record]
                touched.add(value)
        return touched

    def _dispute(self, member: MemberId, record: DisputeRecord, log_index: int) -> set[HashValue]:
        values = _values(record.hashes)
        for value in values:
            known = self.opinions[value][member].dispute
            if known is None or known.reason is not record.reason:
                self.opinions[value][member] = Opinion(Dispute(record.reason, log_index))
        return values


def _values(hashes: Hashes) -> set[HashValue]:
    return {HashValue(algorithm, value) for algorithm, value in hashes.items()}


def _says_the_same(known: Assertion, new: Assertion) -> bool:
    return (known.classification, known.media, known.basis) == (
        new.classification,
        new.media,
        new.basis,
    )
