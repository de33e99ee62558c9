"""The user's own key is made once and kept to the user; an organisation's certificate takes its place."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import OutputError, SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.provenance.manifest_reader import read_manifest
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signing_identity import CERTIFICATE_VARIABLE, KEY_VARIABLE, signing_identity
from tests.pipeline.tiny_pipeline import portrait

DAY = datetime.timedelta(days=1)


def make_organisation(folder: Path, days: int = 30, name: str = "acme") -> tuple[Path, Path, Path]:
    """Certificate chain, key and the authority's certificate, as an organisation has them."""
    now = datetime.datetime.now(datetime.UTC)
    keys = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    certificates = []
    for number, common in enumerate(("Acme root", "Acme video")):
        ca, key = number == 0, keys[number]
        subject, issuer = (
            x509.Name(
                [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme"), x509.NameAttribute(NameOID.COMMON_NAME, one)]
            )
            for one in (common, "Acme root")
        )
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        builder = (
            x509.CertificateBuilder(
                issuer, subject, key.public_key(), x509.random_serial_number(), now - 60 * DAY, now + days * DAY
            )
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not ca:
            email = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.4")])
            builder = builder.add_extension(email, critical=False)
        certificates.append(builder.sign(keys[0], hashes.SHA384()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-root.pem"
    contents = certificates[1] + certificates[0], keys[1].private_bytes(*plain), certificates[0]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return files


def test_the_own_key_is_made_once_and_is_readable_by_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    first = signing_identity()
    assert first.algorithm == "es256" and signing_identity() == first
    (key,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    if os.name != "nt":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be stored in .*manifest to off\."):
        signing_identity()


def test_an_organisations_certificate_signs_and_is_trusted_where_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key, root = make_organisation(tmp_path)
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(certificate))
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    path = write_video(tmp_path / "video.mp4", [portrait(64)] * 3, 25, marks=Marks())
    report = read_manifest(path)
    assert (report.state, report.trust, report.signer) == ("valid", "unlisted", "Acme, Acme video")
    assert read_manifest(path, root.read_text()).trust == "listed"


def test_certificates_that_cannot_sign_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key, _ = make_organisation(tmp_path)
    _, other, _ = make_organisation(tmp_path, name="other")
    expired, its_key, _ = make_organisation(tmp_path, days=-1, name="expired")
    (tmp_path / "text").write_text("no certificate")
    cases = {
        "goes with its private key": (certificate, None),
        "is not that of the certificate": (certificate, other),
        "is valid from": (expired, its_key),
        "cannot be read": (tmp_path / "text", key),
        "does not exist": (tmp_path / "nowhere.pem", key),
    }
    for message, (one, two) in cases.items():
        for name, value in ((CERTIFICATE_VARIABLE, one), (KEY_VARIABLE, two)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, str(value))
        with pytest.raises(SettingsError, match=message) as caught:
            signing_identity()
        assert str(caught.value).endswith(".")


def test_the_command_checks_the_certificate_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (CERTIFICATE_VARIABLE, KEY_VARIABLE):
        # restored afterwards, as the command sets them for the processes that it starts
        monkeypatch.setenv(name, "")
    certificate, _, _ = make_organisation(tmp_path)
    words = ["demo", "--output", str(tmp_path / "out.mp4"), "--signing-certificate", str(certificate)]
    assert main(words) == 2
    assert "goes with its private key" in capsys.readouterr().err
