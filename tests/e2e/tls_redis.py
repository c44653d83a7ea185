"""A Redis that is none of ours, with a replica and a Sentinel: they speak TLS only, with a certificate of their own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final

from tests.e2e.certificates import self_signed
from tests.e2e.release import READY_SECONDS_MAX, Release, is_ready
from tests.e2e.wait import eventually

NAME: Final = "managed"
"""Of its pod and its Service, and of the Secret with the ways to it: the keys ``url`` and ``sentinel_url``."""

CA_SECRET: Final = f"{NAME}-ca"
"""The Secret with the certificate of who vouches for it."""

MASTER, REPLICA, SENTINEL = PORTS = (6380, 6381, 26380)
SAFE: Final = "--appendonly yes --appendfsync always --maxmemory-policy noeviction"
TLS: Final = (
    "--port 0 --tls-auth-clients no --tls-replication yes "
    "--tls-cert-file /tls/tls.crt --tls-key-file /tls/tls.key --tls-ca-cert-file /tls/tls.crt"
)

SENTINEL_COMMAND: Final = f"""
cat >sentinel.conf <<END
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel monitor {NAME} {{host}} {MASTER} 1
sentinel auth-pass {NAME} $PASSWORD
END
exec redis-server sentinel.conf --sentinel {TLS} --tls-port {SENTINEL} --protected-mode no
"""


def start(release: Release, directory: Path) -> None:
    """Start it in the release's namespace, with what a client needs to know in Secrets; wait until it runs."""
    host, password = f"{NAME}.{release.namespace}.svc", secrets.token_hex(16)
    key, certificate = self_signed(host, directory)
    account, options = f":{password}@{host}", "?ssl_ca_certs=/etc/redis-ca/ca.crt"
    urls = {
        "url": f"rediss://{account}:{MASTER}{options}",
        "sentinel_url": f"rediss+sentinel://{account}:{SENTINEL}/{NAME}{options}",
    }
    for name, content in {
        NAME: urls | {"password": password},
        CA_SECRET: {"ca.crt": certificate},
        f"{NAME}-tls": {"tls.crt": certificate, "tls.key": key},
    }.items():
        release.core.create_namespaced_secret(release.namespace, {"metadata": {"name": name}, "stringData": content})
    release.core.create_namespaced_service(
        release.namespace,
        {
            "metadata": {"name": NAME},
            # The Sentinel asks the Service for the servers that it is to call ready.
            "spec": {
                "selector": {"app": NAME},
                "ports": [{"name": f"port-{port}", "port": port} for port in PORTS],
                "publishNotReadyAddresses": True,
            },
        },
    )
    release.core.create_namespaced_pod(release.namespace, _pod(host))
    eventually(
        lambda: is_ready(release.core.read_namespaced_pod(NAME, release.namespace)), READY_SECONDS_MAX, release.describe
    )


def _pod(host: str) -> dict[str, Any]:
    identity = {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [{"name": "tls", "secret": {"secretName": f"{NAME}-tls"}}, {"name": "data", "emptyDir": {}}]
    server = (
        f'redis-server {TLS} {SAFE} --replica-announce-ip {host} --requirepass "$PASSWORD" --masterauth "$PASSWORD"'
    )
    return {
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "containers": [
                _container("master", MASTER, f"exec {server} --tls-port {MASTER}"),
                _container("replica", REPLICA, f"exec {server} --tls-port {REPLICA} --replicaof {host} {MASTER}"),
                _container("sentinel", SENTINEL, SENTINEL_COMMAND.format(host=host)),
            ],
            "securityContext": identity,
            "volumes": volumes,
            "terminationGracePeriodSeconds": 0,
        },
    }


def _container(name: str, port: int, command: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": "redis:8",
        "command": ["sh", "-c", f"mkdir -p /data/{name}; cd /data/{name}; {command}"],
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "password"}}}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "data", "mountPath": "/data"}],
    }
