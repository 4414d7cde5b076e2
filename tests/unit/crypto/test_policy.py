"""Trust policies: one spelling, and a quorum that no trick meets."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.cosignature import Witness
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import (
    Checkpoint,
    NoteSignature,
    NoteSigner,
    SignedText,
    parse_note,
    sign_checkpoint,
)
from hashshare.crypto.policy import (
    Group,
    NamedWitness,
    Policy,
    default_threshold,
    parse_policy,
    policy_of,
    verify_freshness,
)
from hashshare.errors import (
    FreezeError,
    HashshareError,
    MalformedError,
    QuorumMissingError,
    SignatureInvalidError,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LOG = NoteSigner("coalition.example/log", PrivateKey.generate())
CHECKPOINT = Checkpoint(LOG.name, 7, b"\x07" * 32)
NOTE = sign_checkpoint(CHECKPOINT, LOG)
WITNESSES = [Witness(f"w{n}.example", PrivateKey.generate()) for n in range(7)]
NAMED = [NamedWitness(f"w{n}", w.verifier) for n, w in enumerate(WITNESSES)]


def cosigned(times: dict[int, datetime], note: bytes = NOTE) -> bytes:
    """The note, cosigned by these witnesses at these times."""
    parsed = parse_note(note)
    lines = tuple(WITNESSES[n].cosign(parsed.text, now=at) for n, at in times.items())
    return SignedText(parsed.text, (*parsed.signatures, *lines)).encode()


@pytest.mark.parametrize(
    ("number", "needed"), [(3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (8, 6), (9, 7), (10, 7)]
)
def test_the_smallest_safe_quorum(number: int, needed: int) -> None:
    """Two quorums of it have an honest witness in common, if only as many lie as may be missing."""
    assert default_threshold(number) == needed
    liars = number - needed
    assert 2 * needed - number > liars


@given(st.integers(1, 7), st.data())
def test_a_policy_has_one_spelling(number: int, data: st.DataObject) -> None:
    """Printing and parsing are inverse."""
    policy = policy_of(LOG.verifier, NAMED[:number], data.draw(st.integers(1, number)))
    assert parse_policy(str(policy)) == policy
    assert parse_policy(f"# ours\n\n{policy}") == policy


@given(st.text(alphabet="logwitnesgrupqm anyo0123456789+=\n#", max_size=200))
def test_any_text_is_a_policy_or_malformed(text: str) -> None:
    """No error but ours comes out."""
    try:
        policy = parse_policy(text)
    except HashshareError:
        return
    assert parse_policy(str(policy)) == policy


W0, W1, LOG_LINE = str(NAMED[0]), str(NAMED[1]), f"log {LOG.verifier}"
WRONG = {
    "no quorum": f"{LOG_LINE}\n{W0}\n",
    "no log": f"{W0}\nquorum w0\n",
    "two quorums": f"{LOG_LINE}\nquorum none\nquorum none\n",
    "a key under two names": f"{LOG_LINE}\n{W0}\n{W0.replace(' w0 ', ' w9 ')}\nquorum none\n",
    "the same name twice": f"{LOG_LINE}\n{W0}\n{W1.replace(' w1 ', ' w0 ')}\nquorum none\n",
    "in two groups": f"{LOG_LINE}\n{W0}\ngroup a any w0\ngroup b any w0\nquorum b\n",
    "twice in a group": f"{LOG_LINE}\n{W0}\ngroup a 2 w0 w0\nquorum a\n",
    "a later group": f"{LOG_LINE}\n{W0}\ngroup a any b\ngroup b any w0\nquorum a\n",
    "too many": f"{LOG_LINE}\n{W0}\ngroup a 2 w0\nquorum a\n",
    "none of them": f"{LOG_LINE}\n{W0}\ngroup a 0 w0\nquorum a\n",
    "an unknown quorum": f"{LOG_LINE}\n{W0}\nquorum w1\n",
    "another word": f"{LOG_LINE}\ntrust me\nquorum none\n",
    "another scheme": f"{LOG_LINE}\n{W0} http://w0.example\nquorum w0\n",
    "a log's key as a witness's": f"{LOG_LINE}\nwitness w0 {LOG.verifier}\nquorum w0\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_policy_that_contradicts_itself_is_refused(text: str) -> None:
    """And so is one that would count a witness twice."""
    with pytest.raises(HashshareError):
        parse_policy(text)


@given(
    st.integers(1, 7),
    st.dictionaries(st.integers(0, 6), st.integers(0, 100), max_size=7),
    st.data(),
)
def test_the_time_of_a_quorum(number: int, minutes: dict[int, int], data: st.DataObject) -> None:
    """The latest moment since which enough have cosigned: compared with every subset."""
    needed = data.draw(st.integers(1, number))
    policy = policy_of(LOG.verifier, NAMED[:number], needed)
    times = {n: NOW - timedelta(minutes=m) for n, m in minutes.items()}
    counted = [at for n, at in times.items() if n < number]
    expected = max((min(some) for some in combinations(counted, needed)), default=None)
    if expected is None:
        with pytest.raises(QuorumMissingError):
            policy.verify(cosigned(times))
    else:
        assert policy.verify(cosigned(times)) == expected


def test_groups_within_groups() -> None:
    """Two of three members, and any of two from outside."""
    groups = (
        Group("members", "2", ("w0", "w1", "w2")),
        Group("outside", "any", ("w3", "w4")),
        Group("both", "all", ("members", "outside")),
    )
    policy = Policy((LOG.verifier,), tuple(NAMED[:5]), groups, "both")
    assert parse_policy(str(policy)) == policy
    assert policy.verify(cosigned({0: NOW, 2: NOW, 4: NOW})) == NOW
    for missing in ({0: NOW, 4: NOW}, {0: NOW, 1: NOW, 2: NOW}):
        with pytest.raises(QuorumMissingError):
            policy.verify(cosigned(missing))


def test_without_witnesses_nothing_is_demanded() -> None:
    """And nothing is known of its age."""
    assert policy_of(LOG.verifier, []).verify(NOTE) is None


def _false_lines() -> dict[str, NoteSignature]:
    other = Checkpoint(LOG.name, 8, b"\x08" * 32).text()
    w0 = WITNESSES[0]
    moved = w0.cosign(CHECKPOINT.text(), now=NOW)
    return {
        "of another checkpoint": w0.cosign(other, now=NOW),
        "of another time": NoteSignature(moved.name, moved.key_id, b"\x00" * 8 + moved.value[8:]),
        "cut": NoteSignature(moved.name, moved.key_id, moved.value[:-1]),
        "by another": NoteSignature(
            moved.name, moved.key_id, WITNESSES[1].cosign(CHECKPOINT.text(), now=NOW).value
        ),
    }


@pytest.mark.parametrize("how", _false_lines())
def test_a_false_cosignature_refuses_the_whole(how: str) -> None:
    """Though the others would be enough."""
    policy = policy_of(LOG.verifier, NAMED[:3], 1)
    note = parse_note(cosigned({1: NOW, 2: NOW}))
    forged = SignedText(note.text, (*note.signatures, _false_lines()[how])).encode()
    with pytest.raises((SignatureInvalidError, MalformedError)):
        policy.verify(forged)


@pytest.mark.parametrize(
    ("age", "warns"), [(-200, False), (0, False), (7199, False), (7201, True), (93_599, True)]
)
def test_what_is_fresh_and_what_is_not(age: int, warns: bool) -> None:
    """Warned of after the first limit."""
    found = verify_freshness(
        NOW - timedelta(seconds=age),
        NOW,
        warn_after=timedelta(hours=2),
        stop_after=timedelta(hours=26),
    )
    assert found is warns


@pytest.mark.parametrize("age", [-301, 93_601])
def test_freeze(age: int) -> None:
    """Too old, or of a time that has not come."""
    with pytest.raises(FreezeError):
        verify_freshness(
            NOW - timedelta(seconds=age),
            NOW,
            warn_after=timedelta(hours=2),
            stop_after=timedelta(hours=26),
        )


def test_auditors_stand_beside_the_quorum() -> None:
    """Listed, and counted by nobody; a group of that name that is counted is one of witnesses."""
    voters, auditors = tuple(NAMED[:3]), tuple(NAMED[3:4])
    policy = policy_of(LOG.verifier, voters, 2, auditors)
    assert parse_policy(str(policy)) == policy
    assert (policy.voters, policy.auditors, policy.threshold) == (voters, auditors, 2)
    alone = policy_of(LOG.verifier, [], None, auditors)
    assert (alone.voters, alone.auditors, alone.quorum) == ((), auditors, "")
    text = str(policy).replace("quorum witnesses", "group both all witnesses auditors\nquorum both")
    counted = parse_policy(text)
    assert (counted.voters, counted.auditors) == ((*voters, *auditors), ())
