"""Latents and text embeddings as sidecars of a sample: the latent cache.

Both are safetensors with one tensor. NaN and infinity are refused on the way in and on the way
out, because one bad latent ruins a training run long before anyone looks.

Shape suffixes: C channels, T latent frames, H height, W width, L tokens, D embedding channels.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from nemo_cosmos.data.shards.layout import TEXT_SUFFIX as TEXT_SUFFIX
from nemo_cosmos.errors import NumericsError, SampleError

LATENT_SUFFIX = "latent.safetensors"
CODES_SUFFIX = "codes.safetensors"
_LATENT, _EMBEDDING, _CODES = "latent", "embedding", "codes"


def pack_latent(
    latent_CTHW: torch.Tensor, dtype: torch.dtype = torch.float16, where: str = "a sample"
) -> bytes:
    """Serialise a normalised latent ``(16, T, H, W)``.

    Args:
        latent_CTHW: any floating-point type.
        dtype: type on disk: float16, bfloat16 or float32.
        where: shard and key, for the message.

    Raises:
        NumericsError: it holds NaN or infinity, or values that float16 cannot hold.
    """
    return _pack(_LATENT, latent_CTHW, 4, dtype, where)


def unpack_latent(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the float32 latent ``(16, T, H, W)`` that :func:`pack_latent` wrote.

    Args:
        content: the sidecar.
        where: shard and key, for the message.

    Raises:
        SampleError: it is damaged or holds something else.
        NumericsError: it holds NaN or infinity.
    """
    return _unpack(_LATENT, content, 4, where).to(torch.float32)


def pack_codes(codes_THW: torch.Tensor, where: str = "a sample") -> bytes:
    """Serialise the code indices ``(T, H, W)`` of a discrete tokenizer, as int32.

    Raises:
        SampleError: they have another number of dimensions, or none at all.
    """
    if codes_THW.ndim != 3 or codes_THW.numel() == 0:
        raise SampleError(
            f"The codes of {where} have shape {tuple(codes_THW.shape)}; expected (T, H, W), none "
            "of them empty. Pass one sample, not a batch."
        )
    return bytes(save({_CODES: codes_THW.detach().cpu().to(torch.int32).contiguous()}))


def unpack_codes(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the code indices ``(T, H, W)``, int32, that :func:`pack_codes` wrote.

    Raises:
        SampleError: it is damaged or holds something else.
    """
    try:
        codes_THW = load(content)[_CODES]
    except (SafetensorError, KeyError) as error:
        raise SampleError(
            f"The codes of {where} cannot be read: {error}. The shard is damaged; run "
            "'nemo-cosmos tokenize' again into a new folder."
        ) from error
    if codes_THW.ndim != 3 or codes_THW.dtype != torch.int32:
        raise SampleError(
            f"The codes of {where} have shape {tuple(codes_THW.shape)} and type "
            f"{codes_THW.dtype}; expected (T, H, W) and torch.int32."
        )
    return codes_THW


def pack_embedding(embedding_LD: torch.Tensor, where: str = "a caption") -> bytes:
    """Serialise the embedding ``(L, D)`` of a caption, trimmed to its length, as float16.

    Raises:
        NumericsError: it holds NaN or infinity, or values that float16 cannot hold.
    """
    return _pack(_EMBEDDING, embedding_LD, 2, torch.float16, where)


def unpack_embedding(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the float32 embedding ``(L, D)``; raises as :func:`unpack_latent`."""
    return _unpack(_EMBEDDING, content, 2, where).to(torch.float32)


def _pack(name: str, tensor: torch.Tensor, num_dims: int, dtype: torch.dtype, where: str) -> bytes:
    if tensor.ndim != num_dims or tensor.numel() == 0:
        raise SampleError(
            f"The {name} of {where} has shape {tuple(tensor.shape)}; expected {num_dims} "
            "dimensions, none of them empty. Pass one sample, not a batch."
        )
    stored = tensor.detach().cpu().to(dtype).contiguous()
    if not bool(torch.isfinite(stored).all()):
        reason = (
            "holds NaN or infinity"
            if not bool(torch.isfinite(tensor).all())
            else f"reaches {float(tensor.abs().max()):.3g}, which {dtype} cannot hold"
        )
        raise NumericsError(
            f"The {name} of {where} {reason}; expected finite values around 1. Check that the "
            "encoder was trained to the end and that its statistics are those of its weights."
        )
    return bytes(save({name: stored}))


def _unpack(name: str, content: bytes, num_dims: int, where: str) -> torch.Tensor:
    try:
        tensor = load(content)[name]
    except (SafetensorError, KeyError) as error:
        raise SampleError(
            f"The {name} of {where} cannot be read: {error}. The shard is damaged; run "
            "'nemo-cosmos tokenize' again into a new folder."
        ) from error
    if tensor.ndim != num_dims or not tensor.is_floating_point():
        raise SampleError(
            f"The {name} of {where} has shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            f"expected {num_dims} dimensions of floating-point numbers."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise NumericsError(
            f"The {name} of {where} holds NaN or infinity. Run 'nemo-cosmos tokenize' again with a "
            "tokenizer whose reconstructions look right."
        )
    return tensor
