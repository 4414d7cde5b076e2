"""What an organization joins with: one spelling, and nothing unsafe."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import canonical
from hashshare.crypto.encoding import encode_base64
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import NoteSigner
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import MAX_TRUST_BYTES, Invitation, Trust, parse_trust
from hashshare.domain.registry import Keys
from hashshare.errors import (
    HashshareError,
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
)

LOG = "coalition.example/log"
LOG_SIGNER = NoteSigner(LOG, PrivateKey.generate())
GOVERNOR, PUBLISHER = PrivateKey.generate(), PrivateKey.generate()


INVITATION = Invitation(
    api_url="https://hashes.example:8443",
    ca_fingerprint="a" * 64,
    coalition="Coalition für Hashes",
    enrol_url="https://[::1]:8444",
    member="acme",
    token="T" * 43,
    trust_digest="b" * 64,
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
urls = st.sampled_from(["https://a.example", "https://127.0.0.1:8443", "https://[::1]:8444"])
invitations = st.builds(
    Invitation,
    api_url=urls,
    ca_fingerprint=digests,
    coalition=st.text(min_size=1, max_size=200),
    enrol_url=urls,
    member=st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,62}\Z"),
    token=st.from_regex(r"\A[A-Za-z0-9_-]{43}\Z"),
    trust_digest=digests,
)


@given(invitations, st.text(" \t\r\n", max_size=3))
def test_an_invitation_comes_back_from_its_line(invitation: Invitation, space: str) -> None:
    """Whatever its name, and with the white space of the mail that it came in."""
    line = str(invitation)

    assert line.startswith("hsinv1_")
    assert line.isascii()
    assert Invitation.parse(f"{space}{line}{space}") == invitation


def test_every_altered_character_of_an_invitation_is_refused_or_means_another() -> None:
    """No two lines mean the same; another one is found out by the digests that it pins."""
    line = str(INVITATION)

    for place in range(len(line)):
        for other in "Aq_-0=.+ é":
            if line[place] == other:
                continue
            altered = line[:place] + other + line[place + 1 :]
            try:
                parsed = Invitation.parse(altered)
            except MalformedError:
                continue
            assert str(parsed) == altered.strip()
            assert parsed != INVITATION


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hsinv1_",
        "hsinv2_" + str(INVITATION).removeprefix("hsinv1_"),
        str(INVITATION).removeprefix("hsinv1_"),
        str(INVITATION)[:-1],
        str(INVITATION)[:-4],
        str(INVITATION) + "A",
        str(INVITATION) + "=",
        str(INVITATION) * 2,
        "hsinv1_" + encode_base64(b"[]").rstrip("="),
    ],
)
def test_what_is_no_invitation_is_refused(text: str) -> None:
    """Cut, doubled, of another version, or of something else."""
    with pytest.raises(MalformedError):
        Invitation.parse(text)


@given(st.text(max_size=100))
def test_arbitrary_text_is_no_invitation(text: str) -> None:
    """No error but ours comes out."""
    for candidate in (text, "hsinv1_" + text):
        with pytest.raises(MalformedError):
            Invitation.parse(candidate)


@pytest.mark.parametrize(
    "fields",
    [
        {"api_url": "http://hashes.example"},
        {"api_url": "https://hashes.example/path"},
        {"enrol_url": "https://user@hashes.example"},
        {"ca_fingerprint": "A" * 64},
        {"coalition": ""},
        {"member": "Acme"},
        {"token": "T" * 42},
        {"trust_digest": ""},
    ],
)
def test_an_invitation_leads_nowhere_else(fields: dict[str, object]) -> None:
    """A place without TLS, a path or a person in the address, or a digest of another spelling."""
    made: Invitation = msgspec.structs.replace(INVITATION, **fields)

    with pytest.raises(MalformedError):
        Invitation.parse(str(made))


def test_the_server_knows_the_digest_of_the_token_only() -> None:
    """It is that of the text that the organization sends."""
    assert INVITATION.token_digest == canonical.digest(b"T" * 43)


def trust(**fields: object) -> bytes:
    """A trust document that differs in some fields."""
    whole = Trust(
        ca="-----BEGIN CERTIFICATE-----",
        coalition="Coalition",
        governance=Keys(keys=(GOVERNOR.public.text,)),
        log=LOG,
        log_key=str(LOG_SIGNER.verifier),
        publishers=Keys(keys=(PUBLISHER.public.text,)),
    )
    return encode_document(msgspec.structs.replace(whole, **fields))


def test_a_trust_document_names_the_logs_key() -> None:
    """With which the first checkpoint is verified."""
    assert parse_trust(trust()).log_verifier == LOG_SIGNER.verifier


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (trust(log="other.example/log"), MixAndMatchError),
        (trust(log_key="nothing"), MalformedError),
        (trust(log_key=str(LOG_SIGNER.verifier)[:-1]), MalformedError),
        (trust(governance=Keys(keys=("A" * 43 + "=",))), KeyUnsafeError),
        (trust(publishers=Keys(keys=("A" * 43 + "=",))), KeyUnsafeError),
        (trust() + b"\n", MalformedError),
        (b" " * (MAX_TRUST_BYTES + 1), MalformedError),
    ],
    ids=["log", "key", "key cut", "governance", "publisher", "newline", "length"],
)
def test_an_unsafe_trust_document_is_refused(data: bytes, error: type[HashshareError]) -> None:
    """Before anything is believed because of it."""
    with pytest.raises(error):
        parse_trust(data)
