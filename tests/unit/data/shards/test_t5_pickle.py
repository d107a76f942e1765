"""T5 pickles of cosmos-curate are read, and run nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.data.shards.t5_pickle import read_t5_pickle
from nemo_cosmos.errors import MissingFileError, SampleError


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_t5_pickle_of_numpy(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.random.default_rng(0).normal(size=(7, 5)).astype(dtype)
    array = np.asarray(array, order=order)
    file = tmp_path / "t5.pickle"
    file.write_bytes(pickle.dumps([array, array[:3]], protocol=4))
    first, second = read_t5_pickle(file)
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array[:3])


def test_t5_pickle_of_cosmos_curate(samples_dir: Path) -> None:
    (array,) = read_t5_pickle(samples_dir / "text" / "example_t5_embeddings.pickle")
    assert array.shape == (124, 1024)
    assert array.dtype == np.float16
    assert np.isfinite(array).all()


class _Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([_Malicious()]),
        pickle.dumps([np.array([print], dtype=object)]),
        pickle.dumps([np.zeros((2, 2), dtype=np.int64)]),
        pickle.dumps([np.zeros(3)]),
        pickle.dumps({"a": 1}),
        pickle.dumps([]),
        b"not a pickle",
        pickle.dumps([np.zeros((2, 2))])[:-20],
    ],
)
def test_other_pickles_are_refused(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t5.pickle"
    file.write_bytes(content)
    with pytest.raises(SampleError, match="not a T5 pickle"):
        read_t5_pickle(file)
    assert capsys.readouterr().out == ""


def test_missing_pickle(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="No such file"):
        read_t5_pickle(tmp_path / "none.pickle")
