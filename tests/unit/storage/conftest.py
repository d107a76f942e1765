"""A network that cuts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest


class CuttingProxy:
    """Passes connections on to a server, and cuts some after a number of bytes.

    Args:
        target: URL of the server.
    """

    def __init__(self, target: str) -> None:
        self._target = int(target.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts_left = 0
        self.cut_after_bytes = 0
        self.num_cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, times: int, after_bytes: int) -> None:
        """Cut the next connections once one direction has carried so many bytes."""
        self.cuts_left, self.cut_after_bytes = times, after_bytes

    def close(self) -> None:
        """Refuse further connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                carried += len(content)
                if self.cuts_left > 0 and carried > self.cut_after_bytes:
                    self.cuts_left -= 1
                    self.num_cut += 1
                    break
                sink.sendall(content)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def cutting_proxy(s3_endpoint, bucket, monkeypatch) -> Iterator[CuttingProxy]:
    """What lies between the test and the server of ``bucket``."""
    proxy = CuttingProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()
