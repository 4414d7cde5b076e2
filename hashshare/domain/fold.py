"""The fold: what a hash set contains, as a pure function of the submissions in log order.

This is the rule that the SQL is tested against and that an auditor replays. It is written
to be read; it keeps one hash set in memory.

Source: docs/protocol.md, "The fold".
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.policy import Assertion, Dispute, Ruling, Stance, View, attributes_in
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Hashes,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.spans import Span, covers

Disregarded = Mapping[MemberId, Sequence[Span]]
"""By member the parts of the log in which what it said is disregarded."""

_NOTHING: Final[Disregarded] = {}


@dataclass(slots=True)
class Opinion:
    """All that one member has in force on one hash: a dispute, or assertions by record.

    Attributes:
        rulings: What it decided as a reviewer, oldest first; nothing ends these.
    """

    dispute: Dispute | None = None
    assertions: dict[str, Assertion] = field(default_factory=dict)
    rulings: list[Ruling] = field(default_factory=list)

    def stance(self, disregarded: Sequence[Span] = ()) -> Stance | None:
        """Return its dispute, else its latest assertion; the greatest record id decides a tie.

        Args:
            disregarded: What was said in these parts of the log is as if it were not said.
        """
        if self.dispute is not None and not covers(disregarded, self.dispute.log_index):
            return self.dispute
        held = [a for a in self.assertions.values() if not covers(disregarded, a.log_index)]
        return max(held, key=lambda a: (a.log_index, a.record.encode()), default=None)


@dataclass(frozen=True, slots=True)
class Said:
    """What counts of all that was said of one hash.

    Attributes:
        stances: Of every member that has one.
        ruling: The latest one.
    """

    stances: Mapping[MemberId, Stance]
    ruling: Ruling | None


def said_of(opinions: Mapping[MemberId, Opinion], disregarded: Disregarded) -> Said:
    """Return what counts of the opinions on one hash."""
    stances = {m: o.stance(disregarded.get(m, ())) for m, o in opinions.items()}
    rulings = [
        ruling
        for member, opinion in opinions.items()
        for ruling in opinion.rulings
        if not covers(disregarded.get(member, ()), ruling.log_index)
    ]
    return Said(
        {member: stance for member, stance in stances.items() if stance is not None},
        max(rulings, key=lambda ruling: ruling.log_index, default=None),
    )


@dataclass(slots=True)
class Fold:
    """The state of one hash set after some prefix of the log."""

    opinions: dict[HashValue, dict[MemberId, Opinion]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Opinion))
    )

    def apply(
        self, member: MemberId, records: Iterable[Record], *, log_index: int, alone: bool = True
    ) -> set[HashValue]:
        """Take in one submission and return the hashes that it may have changed.

        Args:
            member: Who signed it.
            records: Its batch, in order.
            log_index: Its place in the log; greater than that of every one before.
            alone: Whether its disputes count alone.
        """
        touched: set[HashValue] = set()
        for record in records:
            match record:
                case AssertRecord():
                    touched |= self._assert(member, record, log_index)
                case WithdrawRecord():
                    touched |= self._withdraw(member, record)
                case DisputeRecord():
                    touched |= self._dispute(member, record, log_index, alone)
                case RuleRecord():
                    touched |= self._rule(member, record, log_index)
        return touched

    def entries(
        self,
        view: View,
        algorithm: HashAlgorithm,
        jurisdictions: Mapping[MemberId, str],
        disregarded: Disregarded = _NOTHING,
    ) -> dict[bytes, bytes]:
        """Return the contents of one list: values with their attributes as canonical JSON."""
        contents = {}
        for value in self.opinions:
            if value.algorithm is algorithm:
                said = self.said(value, disregarded)
                attributes = attributes_in(view, said.stances, jurisdictions, said.ruling)
                if attributes is not None:
                    contents[value.value] = attributes
        return contents

    def stances(self, value: HashValue) -> dict[MemberId, Stance]:
        """Return the present stance of every member that has one on ``value``."""
        return dict(self.said(value).stances)

    def said(self, value: HashValue, disregarded: Disregarded = _NOTHING) -> Said:
        """Return what counts of all that was said of ``value``."""
        return said_of(self.opinions.get(value, {}), disregarded)

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
                opinion = self.opinions[value][member]
                opinion.dispute = None
                opinion.assertions.clear()
            return values
        touched = set()
        for value, opinions in self.opinions.items():
            if member in opinions and record.record in opinions[member].assertions:
                del opinions[member].assertions[record.record]
                touched.add(value)
        return touched

    def _dispute(
        self, member: MemberId, record: DisputeRecord, log_index: int, alone: bool
    ) -> set[HashValue]:
        values = _values(record.hashes)
        for value in values:
            opinion = self.opinions[value][member]
            opinion.assertions.clear()
            known = opinion.dispute
            if known is None or known.reason is not record.reason:
                opinion.dispute = Dispute(record.reason, log_index, alone)
        return values

    def _rule(self, member: MemberId, record: RuleRecord, log_index: int) -> set[HashValue]:
        values = _values(record.hashes)
        for value in values:
            ruling = Ruling(record.decision, record.reason, log_index)
            self.opinions[value][member].rulings.append(ruling)
        return values


def _values(hashes: Hashes) -> set[HashValue]:
    return {HashValue(algorithm, value) for algorithm, value in hashes.items()}


def _says_the_same(known: Assertion, new: Assertion) -> bool:
    return (known.classification, known.media, known.basis) == (
        new.classification,
        new.media,
        new.basis,
    )
