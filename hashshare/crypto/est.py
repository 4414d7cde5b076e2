"""What EST sends (RFC 7030): requests for what one holds already, and certificates alone."""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from hashshare.crypto.certificates import UNREADABLE, ClientKey, Issued, certified_key
from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.errors import MalformedError, PermissionDeniedError

# RFC 6402, appendix A: id-cmc-changeSubjectName.
_CHANGE_SUBJECT_NAME: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")
# The two of them are no ValueError.
_UNREADABLE: Final = (*UNREADABLE, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

_Names = tuple[x509.Name, list[x509.GeneralName]]


def encode_certificates(certificates: Sequence[Issued]) -> str:
    """Return certificates, at least one, as certs-only PKCS #7 in base64; their order is lost.

    In one line: RFC 8951 section 3.1 has readers bear white space, and strongSwan's does not.

    Source: RFC 7030 sections 4.1.3 and 4.2.3.
    """
    found = [one.certificate for one in certificates]
    return encode_base64(pkcs7.serialize_certificates(found, serialization.Encoding.DER))


def parse_reenrolment(body: bytes, *, shown: Issued) -> ClientKey:
    """Return the key of a request to renew a certificate, with the same key or another.

    Of the request nothing else is used: its names have to be those of the certificate, which are
    not taken from it.

    Args:
        body: A request (PKCS #10) as DER in base64; white space does not count.
        shown: What its sender has shown, and wants anew.

    Raises:
        MalformedError: ``body`` is not that.
        KeyUnsafeError: It is not signed by its key, or the key is of a kind not accepted.
        PermissionDeniedError: It is for another subject or other names than ``shown`` has.

    Source: RFC 7030 section 4.2.2; RFC 8951 section 3.1 for the white space.
    """
    request = _parse_request(body)
    # First: of what nobody signed nothing is believed, not even that it is somebody else's.
    key = certified_key(request)
    wanted, names = _names_of(shown.certificate), _names_of(request)
    if _changes_names(request) or names != wanted:
        subject = wanted[0].rfc4514_string()
        raise PermissionDeniedError(
            f"expected the subject {subject} and the alternative names of the certificate shown"
        )
    return key


def _parse_request(body: bytes) -> x509.CertificateSigningRequest:
    # Of white space in ASCII alone: str.split() would take others.
    text = b"".join(body.split()).decode("latin-1")
    try:
        return x509.load_der_x509_csr(decode_base64(text))
    except _UNREADABLE as error:
        raise MalformedError("not a certificate signing request in DER") from error


def _names_of(source: x509.Certificate | x509.CertificateSigningRequest) -> _Names:
    try:
        subject, extensions = source.subject, source.extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return source.subject, []
    except _UNREADABLE as error:
        raise MalformedError("the names in the request cannot be read") from error
    return subject, list(found.value)


def _changes_names(request: x509.CertificateSigningRequest) -> bool:
    """Return whether it wants other names than it has now."""
    try:
        return any(a.oid == _CHANGE_SUBJECT_NAME for a in request.attributes)
    except _UNREADABLE as error:
        raise MalformedError("the attributes of the request cannot be read") from error
