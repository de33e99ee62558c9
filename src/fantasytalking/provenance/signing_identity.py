"""Who signs: a key of this user, made on first use, or an organisation's certificate."""

from __future__ import annotations

import datetime
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.errors import OutputError, SettingsError
from fantasytalking.system.files import existing_file

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = [
    "CERTIFICATE_VARIABLE",
    "KEY_VARIABLE",
    "SELF_MADE",
    "SigningIdentity",
    "check_signing_identity",
    "own_certificate",
    "signing_identity",
]

CERTIFICATE_VARIABLE, KEY_VARIABLE = "FANTASYTALKING_SIGNING_CERTIFICATE", "FANTASYTALKING_SIGNING_KEY"
"""Environment variables that name an organisation's certificate chain and private key, both PEM."""
SELF_MADE = "FantasyTalking, key made on this computer"
"""Organisation in the certificates that this module makes."""
_NAME = "signing-key.pem"
_YEARS = 10
# The purpose that c2pa accepts for signers that are on no trust list: e-mail protection, RFC 5280, 4.2.1.12.
_EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
_WAY_OUT = f"set {CERTIFICATE_VARIABLE} and {KEY_VARIABLE}, or manifest to off"


@dataclass(frozen=True)
class SigningIdentity:
    """A certificate with its key.

    Attributes:
        certificates: The signer's certificate and those above it, PEM.
        key: The private key, PEM.
        algorithm: As c2pa calls it, such as `es256`.
    """

    certificates: bytes
    key: bytes
    algorithm: str

    def signer(self) -> Any:
        """The signer of c2pa."""
        import c2pa

        # No time stamp: it would need the network at each signature.
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None))


def signing_identity() -> SigningIdentity:
    """The organisation's identity that the environment names, else this user's own, which is made if there is none.

    Raises:
        SettingsError: The certificate or the key cannot be used.
        OutputError: The own key cannot be stored.
    """
    certificate, key = os.environ.get(CERTIFICATE_VARIABLE), os.environ.get(KEY_VARIABLE)
    if certificate or key:
        if not certificate or not key:
            raise SettingsError("A signing certificate goes with its private key; give both, as PEM files.")
        return _identity(_read(certificate, "signing certificate"), _read(key, "signing key"), certificate)
    path = _own_path()
    if not path.exists():
        _make_own(path)
    content = path.read_bytes()
    return _identity(content, content, str(path))


def check_signing_identity() -> None:
    """Check what can be wrong with `signing_identity`, quickly: a key that this package made is right, and is made if there is none.

    Raises:
        SettingsError: The certificate or the key cannot be used.
        OutputError: The own key cannot be stored.
    """
    # Reading a certificate imports a library, for which the first step of a generation need not wait.
    if os.environ.get(CERTIFICATE_VARIABLE) or os.environ.get(KEY_VARIABLE) or not os.access(_own_path(), os.R_OK):
        signing_identity()


def own_certificate() -> bytes | None:
    """This user's own certificates, PEM; None where no key has been made."""
    path = _own_path()
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content[content.index(b"-----BEGIN CERTIFICATE") :] if b"-----BEGIN CERTIFICATE" in content else None


def _own_path() -> Path:
    if os.name == "nt":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "fantasytalking" / _NAME


def _read(path: str, what: str) -> bytes:
    return existing_file(path, what, SettingsError).read_bytes()


def _identity(certificates: bytes, key: bytes, name: str) -> SigningIdentity:
    """Check that certificate and key belong together and can be used today."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        first = x509.load_pem_x509_certificates(certificates)[0]
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, IndexError) as error:
        reason = "the key has a password" if "encrypt" in str(error) else "not PEM, or damaged"
        raise SettingsError(
            f"The signing certificate '{name}' and its key cannot be read ({reason}); {_WAY_OUT}."
        ) from error
    if private.public_key() != first.public_key():
        raise SettingsError(
            f"The signing key is not that of the certificate '{name}'; give the two that belong together."
        )
    now = datetime.datetime.now(datetime.UTC)
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        raise SettingsError(
            f"The signing certificate '{name}' is valid from {first.not_valid_before_utc:%Y-%m-%d} to "
            f"{first.not_valid_after_utc:%Y-%m-%d}; {_WAY_OUT}."
        )
    # The key alone: a file of both is read for either.
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    start = certificates.index(b"-----BEGIN CERTIFICATE")
    return SigningIdentity(certificates[start:], plain, _algorithm(private, name))


def _algorithm(key: Any, name: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    raise SettingsError(
        f"The key of '{name}' is of a kind that C2PA has not; use one on the curve P-256, P-384 or P-521, Ed25519 or RSA."
    )


def _make_own(path: Path) -> None:
    """Make the user's key with its certificate, readable by nobody else."""
    content = _own_pem()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
        try:
            # A link, as a rename would replace the key that another process makes at this moment.
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(temporary, path)
        temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"The key that signs videos cannot be stored in '{path.parent}' ({error.strerror}); make that folder writable, {_WAY_OUT}."
        ) from error


def _own_pem() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    # A certificate that signs itself is refused by c2pa, so there is one above it, whose key is thrown away.
    above, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificates = _certificate("Issuer", above, above, True), _certificate("Signer", own, above, False)
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in reversed(certificates)]
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return b"".join([key, *pem])


def _certificate(
    name: str, key: EllipticCurvePrivateKey, issuer: EllipticCurvePrivateKey, is_authority: bool
) -> x509.Certificate:
    """A certificate of the profile that C2PA asks for (specification 2.4, 14.5.1)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def called(common: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, SELF_MADE)
        return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called("Issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([x509.ObjectIdentifier(_EMAIL_PROTECTION)])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer, hashes.SHA256())
