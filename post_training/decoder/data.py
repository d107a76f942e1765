"""Training data of a diffusion decoder: latents with the codes of the same windows beside them."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from nemo_cosmos.controls import encode_arrays
from nemo_cosmos.data.loading.latents import unpack_codes
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.writer import ShardWriter, read_samples
from nemo_cosmos.errors import SampleError
from nemo_cosmos.storage.outputs import check_apart, check_output_folder
from post_training.decoder.signal import DISCRETE

_CODES, _INFO = "codes.safetensors", "dataset.json"


def add_codes(
    latents: str | PathLike[str], codes: str | PathLike[str], out: str | PathLike[str]
) -> int:
    """Write latents with the codes of the same windows; returns the number of samples.

    Args:
        latents: what ``nemo-cosmos tokenize`` made with a continuous tokenizer.
        codes: what it made of the same clips with a discrete one, with the same window and size.
        out: the new folder.

    Raises:
        InputError: the folder cannot be written.
        MissingFileError: a folder holds no shards.
        SampleError: a window has no codes, or codes of another number of frames.
    """
    target = Path(out)
    check_apart(target, [latents, codes])
    check_output_folder(target)
    found = {sample.key: sample for sample in _samples(codes, _CODES)}
    info = json.loads((Path(latents) / _INFO).read_text(encoding="utf-8"))
    count = 0
    with ShardWriter(target) as writer:
        for sample in _samples(latents, "latent.safetensors"):
            if sample.key not in found:
                raise SampleError(
                    f"{sample.where} has no codes in '{codes}'. Tokenize the same clips with the "
                    "discrete tokenizer, with the same --window-frames, --window-stride and --size."
                )
            other = found[sample.key]
            codes_THW = unpack_codes(other.read(_CODES), other.where).numpy()
            values = {DISCRETE.name: codes_THW}
            DISCRETE.check(values, sample.record.num_frames, other.where)
            files = {suffix: sample.read(suffix) for suffix in sample.members if suffix != "json"}
            files[DISCRETE.suffix] = encode_arrays(DISCRETE.suffix, values)
            writer.add(sample.record, files)
            count += 1
    tokenizer = info.get("tokenizer")
    if isinstance(tokenizer, str) and not Path(tokenizer).is_absolute():
        info["tokenizer"] = str((Path(latents) / tokenizer).resolve())
    (target / _INFO).write_text(json.dumps(info), encoding="utf-8")
    return count


def _samples(folder: str | PathLike[str], content: str) -> list[Sample]:
    return read_samples(folder, required=("json", content))
