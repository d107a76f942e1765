"""The one place that opens ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import CheckpointError

if TYPE_CHECKING:
    import onnxruntime


class OnnxNetwork:
    """A network under ONNX Runtime on the CPU.

    Args:
        session: the opened session.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.input_names = tuple(item.name for item in session.get_inputs())

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs of that name, in order; by default all.

        Args:
            inputs: an array for each input.
            outputs: names of outputs.
        """
        arrays = self._session.run(list(outputs) if outputs else None, dict(inputs))
        return [np.asarray(array) for array in arrays]

    def run_one(self, array: Array) -> Array:
        """The first output of a network with one input."""
        (name,) = self.input_names
        return self.run({name: array})[0]


def load_onnx(model: Path | bytes, num_threads: int = 1) -> OnnxNetwork:
    """Open a network that computes in the calling thread, or in some threads more.

    Args:
        model: the file or its content.
        num_threads: the number of threads. Guards run beside the model that they watch, so one is
            the default: it leaves the other cores alone.

    Raises:
        CheckpointError: it is not a network that ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3  # errors alone; it warns about every unused initialiser
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # ONNX Runtime's errors share no base class
        name = "The embedded network" if isinstance(model, bytes) else f"'{model}'"
        raise CheckpointError(
            f"{name} is not a network that ONNX Runtime can open: {error}. If the file is in the "
            "cache, delete it; it is fetched again."
        ) from error
    return OnnxNetwork(session)
