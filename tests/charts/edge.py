"""A real nginx with the edge's configuration, in front of services that do as they are told."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.ports import HOST, free_port
from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually

EDGE = REPOSITORY / "services" / "edge"
TRIES = 5
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nX-Served: yes\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """An HTTP server that notes every request; ``answer`` makes the bytes of the answer, None cuts the connection.

    With ``gone_port`` it is the last of the pods behind its name: all others were at that port.
    """

    answer: Callable[[Received], bytes | None] = lambda _request: OK
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = field(default_factory=free_port)
    gone_port: int | None = None
    _listener: socket.socket | None = None

    def start(self) -> None:
        """Listen on the port."""
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on; those that are open stay so."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (line := stream.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                request = Received(method, target, headers, stream.read(int(headers.get("content-length", 0))))
                self.received.append(request)
                answer = self.answer(request)
                if answer is None:
                    return
                connection.sendall(answer)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are neither accepted nor refused: its queue is full."""
    with socket.create_server((HOST, 0), backlog=0) as listener, ExitStack() as queue:
        for _ in range(2):  # the kernel lets one more wait than it is asked to
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port: int = listener.getsockname()[1]
        yield port


class Edge(Program):
    """The edge on a port of its own; ``http`` is a client for it."""

    def __init__(self, nginx: str, directory: Path, read: Service, write: Service, trusted: str = "") -> None:
        self.port, self.probes_port = free_port(), free_port()
        self._write_configuration(directory, read, write, trusted)
        # As root, nginx would give up its rights to a user that cannot write to the test's directory.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        configuration = directory / "nginx.conf"
        super().__init__("edge", [nginx, "-e", "stderr", "-c", str(configuration), *user], directory, {})
        self.http = httpx.Client(base_url=f"http://{HOST}:{self.port}", timeout=10)

    def close(self) -> None:
        """Let it end: a master that is killed leaves its workers behind."""
        if self.is_running:
            self.terminate()

    def _write_configuration(self, directory: Path, read: Service, write: Service, trusted: str) -> None:
        text = (EDGE / "nginx.conf").read_text()
        for ours, the_tests in (
            ("listen 8080", f"listen {HOST}:{self.port}"),
            ("listen 8081", f"listen {HOST}:{self.probes_port}"),
            ("/tmp/", f"{directory}/"),  # noqa: S108 - what we replace
            ("/dev/stdout", f"{directory}/access.log"),
            ("proxy_read_timeout 10s", "proxy_read_timeout 500ms"),
        ):
            assert ours in text, f"nginx.conf no longer says {ours!r}"
            text = text.replace(ours, the_tests)
        (directory / "conf").mkdir(parents=True)
        (directory / "nginx.conf").write_text(text)
        for name, service in (("read", read), ("write", write)):
            ports = [service.gone_port or service.port] * (TRIES - 1) + [service.port]
            servers = [f"server {HOST}:{port} max_fails=0;\n" for port in ports]
            (directory / "conf" / f"{name}.conf").write_text("".join(servers))
        (directory / "conf" / "trusted-proxies.conf").write_text(trusted)

    def wait_ready(self) -> None:
        """Wait until it answers probes."""
        eventually(lambda: self.answers_probe("/healthz") or not self.is_running, 10, lambda: self.log_tail)
        assert self.is_running, self.log_tail

    def answers_probe(self, path: str) -> bool:
        """Whether a probe of this path succeeds."""
        try:
            answer = httpx.get(f"http://{HOST}:{self.probes_port}{path}", trust_env=False, timeout=10)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK
