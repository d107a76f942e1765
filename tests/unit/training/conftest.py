"""The device that a run has."""

from __future__ import annotations

import pytest

from nemo_cosmos.platform import install_cpu_backend


@pytest.fixture(autouse=True, scope="session")
def backend() -> None:
    """Callbacks call torch.cuda, as they do in a run."""
    install_cpu_backend()
