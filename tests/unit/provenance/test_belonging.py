"""Which differences may be allowed."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.provenance.belonging import KINDS, check_kinds


def test_an_unknown_kind_of_difference_lists_all() -> None:
    check_kinds(KINDS)
    with pytest.raises(ConfigError) as caught:
        check_kinds(["tokenizer", "colour"])
    assert all(kind in str(caught.value) for kind in KINDS)
