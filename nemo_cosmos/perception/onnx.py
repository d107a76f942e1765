"""The one place of this room that opens ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_cosmos.errors import GuardrailError


def open_onnx(model: Path | bytes) -> Any:
    """A session on the CPU that computes in the calling thread.

    Guards run beside the model, so they take one thread and leave the others alone.

    Args:
        model: the file or its content.

    Raises:
        GuardrailError: it is not a network that ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # ONNX Runtime's errors share no base class
        name = "The embedded network" if isinstance(model, bytes) else f"'{model}'"
        raise GuardrailError(
            f"{name} is not one that ONNX Runtime can open: {error}. Remove the file from the "
            "cache; it is fetched again."
        ) from error
