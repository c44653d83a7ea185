"""Certificates for a test."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(host: str, directory: Path) -> tuple[str, str]:
    """A key and a certificate of this host that vouches for itself, for a day; both in PEM."""
    key, certificate = directory / "tls.key", directory / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=e2e"]
    extensions = ["-addext", f"subjectAltName=DNS:{host}", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run([*command, *extensions, "-keyout", key, "-out", certificate], capture_output=True, check=True)
    return key.read_text(), certificate.read_text()
