"""Any T5 encoder through transformers, from a folder or the model hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.home import expanded
from nemo_cosmos.models.common.text.base import REFERENCE_MAX_LENGTH, TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5EncoderModel

REFERENCE_T5 = "google-t5/t5-11b"
"""The encoder that the published Cosmos diffusion models were trained with (1024-d)."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_BATCH_SIZE = 16
_INDEX = "model.safetensors.index.json"


class T5TextEncoder(TextEncoder):
    """``T5EncoderModel`` with its tokenizer.

    Args:
        path: a folder with ``config.json``, weights and tokenizer (then nothing is downloaded), a
            diffusers folder with ``text_encoder/`` and ``tokenizer/``, or a name on the hub such as
            ``google-t5/t5-11b``.
        max_length: number of token positions.
        device: device of the encoder; results are on the CPU.
        dtype: ``float32``, or ``bfloat16`` for half the memory.

    Raises:
        MissingFileError: the path is neither a folder nor a reachable name on the hub.
        ConfigError: an unknown ``dtype``.
    """

    kind = "t5"

    def __init__(
        self,
        path: str,
        max_length: int = REFERENCE_MAX_LENGTH,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype '{dtype}' is unknown; expected one of {', '.join(DTYPES)}.")
        self._tokenizer, model = _load(path, DTYPES[dtype])
        self._model = model.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        super().__init__(path, int(model.config.d_model), max_length)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each prompt, with the end-of-sequence token."""
        # verbose=False: transformers would warn of lengths that we refuse with an error.
        return self._tokenizer(list(prompts), verbose=False)["input_ids"]

    @torch.no_grad()
    def embed(self, tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Encode in batches; padding is masked out of the attention."""
        embeddings: list[torch.Tensor] = []
        for start in range(0, len(tokens), _BATCH_SIZE):
            batch = tokens[start : start + _BATCH_SIZE]
            longest = max(len(ids) for ids in batch)
            ids_BL = torch.zeros(len(batch), longest, dtype=torch.long)
            mask_BL = torch.zeros_like(ids_BL)
            for row, ids in enumerate(batch):
                ids_BL[row, : len(ids)] = torch.tensor(ids)
                mask_BL[row, : len(ids)] = 1
            output_BLD = self._model(
                input_ids=ids_BL.to(self._device), attention_mask=mask_BL.to(self._device)
            ).last_hidden_state
            output_BLD = output_BLD.float().cpu()
            embeddings += [output_BLD[row, : len(ids)] for row, ids in enumerate(batch)]
        return embeddings


def _load(path: str, dtype: torch.dtype) -> tuple[PreTrainedTokenizerBase, T5EncoderModel]:
    """Load tokenizer and encoder; a folder is never completed from the network."""
    from transformers import T5EncoderModel

    folder = expanded(path)
    is_folder = folder.is_dir()
    source = words = str(folder) if is_folder else path
    if (folder / "text_encoder").is_dir():
        source, words = str(folder / "text_encoder"), str(folder / "tokenizer")
    try:
        tokenizer = _load_tokenizer(words, is_folder)
        model = T5EncoderModel.from_pretrained(
            source,
            local_files_only=is_folder,
            dtype=dtype,
            low_cpu_mem_usage=True,
            variant=_variant(Path(source)) if is_folder else None,
        )
    except (OSError, ValueError) as error:
        where = (
            "The folder exists, but it does not hold a complete T5 encoder (config.json, "
            "model.safetensors, tokenizer.json or spiece.model)"
            if is_folder
            else "There is no such folder, and the model hub has no such name or is unreachable"
        )
        raise MissingFileError(
            f"The T5 text encoder '{path}' cannot be loaded. {where}. Give a folder, a hub name "
            f"such as '{REFERENCE_T5}' with a connection to the hub, or the text encoder "
            f"'embedded', whose weights come in a package. Cause: {_first_line(error)}"
        ) from error
    return tokenizer, model


def _variant(folder: Path) -> str | None:
    """The precision that a folder's only weights are named by, such as ``fp16``."""
    if (folder / "model.safetensors").exists() or (folder / _INDEX).exists():
        return None
    found = {path.name.split(".")[1] for path in folder.glob("model.*.safetensors")}
    variants = {name.partition("-")[0] for name in found} - {""}
    return variants.pop() if len(variants) == 1 else None


def _load_tokenizer(source: str, is_folder: bool) -> PreTrainedTokenizerBase:
    """Prefer SentencePiece itself: turning it into a fast tokenizer needs a matching protobuf."""
    from transformers import AutoTokenizer, T5Tokenizer

    if is_folder and not (Path(source) / "spiece.model").exists():
        return AutoTokenizer.from_pretrained(source, local_files_only=True)
    # legacy is T5's own way to treat text beside special tokens, which prompts do not hold.
    return T5Tokenizer.from_pretrained(source, local_files_only=is_folder, legacy=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
