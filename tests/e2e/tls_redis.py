"""A Redis that is none of ours: it answers TLS only, with a certificate of its own, and keeps what it is told."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.e2e.release import READY_SECONDS_MAX, Release, is_ready
from tests.e2e.wait import eventually

NAME: Final = "managed"
"""Of its pod and its Service, and of the Secret with its URL (key ``url``)."""

CA_SECRET: Final = f"{NAME}-ca"
"""The Secret with the certificate of who vouches for it."""

PORT: Final = 6380
SAFE: Final = "--appendonly yes --appendfsync always --maxmemory-policy noeviction --dir /data"
TLS: Final = "--tls-auth-clients no --tls-cert-file /tls/tls.crt --tls-key-file /tls/tls.key"


def start(release: Release, directory: Path) -> None:
    """Start it in the release's namespace, with what a client needs to know in Secrets; wait until it runs."""
    host, password = f"{NAME}.{release.namespace}.svc", secrets.token_hex(16)
    key, certificate = _certificate(host, directory)
    url = f"rediss://:{password}@{host}:{PORT}?ssl_ca_certs=/etc/redis-ca/ca.crt"
    for name, content in {
        NAME: {"url": url, "password": password},
        CA_SECRET: {"ca.crt": certificate},
        f"{NAME}-tls": {"tls.crt": certificate, "tls.key": key},
    }.items():
        release.core.create_namespaced_secret(release.namespace, {"metadata": {"name": name}, "stringData": content})
    release.core.create_namespaced_service(
        release.namespace, {"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]}}
    )
    release.core.create_namespaced_pod(release.namespace, _pod())
    eventually(
        lambda: is_ready(release.core.read_namespaced_pod(NAME, release.namespace)), READY_SECONDS_MAX, release.describe
    )


def _certificate(host: str, directory: Path) -> tuple[str, str]:
    """A key and a certificate that vouches for itself, for a day."""
    key, certificate = directory / "tls.key", directory / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"]
    extensions = ["-addext", f"subjectAltName=DNS:{host}", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run([*command, *extensions, "-keyout", key, "-out", certificate], capture_output=True, check=True)
    return key.read_text(), certificate.read_text()


def _pod() -> dict[str, Any]:
    container = {
        "name": "redis",
        "image": "redis:8",
        "command": ["sh", "-c", f'exec redis-server --port 0 --tls-port {PORT} {TLS} {SAFE} --requirepass "$PASSWORD"'],
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "password"}}}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "data", "mountPath": "/data"}],
    }
    identity = {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [{"name": "tls", "secret": {"secretName": f"{NAME}-tls"}}, {"name": "data", "emptyDir": {}}]
    return {
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "containers": [container],
            "securityContext": identity,
            "volumes": volumes,
            "terminationGracePeriodSeconds": 0,
        },
    }
