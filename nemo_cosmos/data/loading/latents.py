"""Latents, codes and text embeddings as sidecars of a sample: the latent cache.

Each is a safetensors file with one tensor. NaN, infinity and implausible magnitudes are refused
when a sidecar is written and when it is read, because one bad latent ruins a training run long
before anyone looks.

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
MAX_LATENT = 1e3
"""Normalised latents have a variance of about 1; the published code skips samples beyond this."""

_LATENT, _EMBEDDING, _CODES = "latent", "embedding", "codes"


class OutOfRangeError(NumericsError):
    """A latent of no tokenizer's magnitude; training skips the sample, as the reference does."""


def pack_latent(
    latent_CTHW: torch.Tensor, dtype: torch.dtype = torch.float16, where: str = "a sample"
) -> bytes:
    """Serialise a normalised latent ``(16, T, H, W)``.

    Args:
        latent_CTHW: the latent, of any floating-point type.
        dtype: type on disk: float16, bfloat16 or float32.
        where: shard and key, for messages.

    Raises:
        SampleError: it has another number of dimensions, or is empty.
        NumericsError: it holds NaN or infinity.
        OutOfRangeError: it holds magnitudes over :data:`MAX_LATENT`.
    """
    if not is_plausible(latent_CTHW):
        raise _out_of_range(latent_CTHW, where)
    return _pack(_LATENT, latent_CTHW, 4, dtype, where)


def unpack_latent(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the float32 latent ``(16, T, H, W)`` that :func:`pack_latent` wrote.

    Args:
        content: the sidecar.
        where: shard and key, for messages.

    Raises:
        SampleError: it is damaged or holds something else.
        NumericsError: it holds NaN or infinity.
        OutOfRangeError: it holds magnitudes over :data:`MAX_LATENT`.
    """
    latent_CTHW = _unpack(_LATENT, content, 4, where).to(torch.float32)
    if not is_plausible(latent_CTHW):
        raise _out_of_range(latent_CTHW, where)
    return latent_CTHW


def is_plausible(latent_CTHW: torch.Tensor) -> bool:
    """Whether a latent's magnitudes are those of a tokenizer; NaN and infinity are not asked."""
    finite = latent_CTHW.isfinite()
    return not bool((latent_CTHW.abs() > MAX_LATENT).logical_and(finite).any())


def pack_codes(codes_THW: torch.Tensor, where: str = "a sample") -> bytes:
    """Serialise the code indices ``(T, H, W)`` of a discrete tokenizer, as int32.

    Raises:
        SampleError: they have another number of dimensions, or are empty.
    """
    return _pack(_CODES, codes_THW, 3, torch.int32, where)


def unpack_codes(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the code indices ``(T, H, W)``, int32, that :func:`pack_codes` wrote.

    Raises:
        SampleError: it is damaged or holds something else.
    """
    return _unpack(_CODES, content, 3, where)


def pack_embedding(embedding_LD: torch.Tensor, where: str = "a caption") -> bytes:
    """Serialise the embedding ``(L, D)`` of a caption, trimmed to its length, as float16.

    Raises:
        SampleError: it has another number of dimensions, or is empty.
        NumericsError: it holds NaN or infinity, or values that float16 cannot hold.
    """
    return _pack(_EMBEDDING, embedding_LD, 2, torch.float16, where)


def unpack_embedding(content: bytes, where: str = "a sample") -> torch.Tensor:
    """Return the float32 embedding ``(L, D)`` that :func:`pack_embedding` wrote.

    Raises:
        SampleError: it is damaged or holds something else.
        NumericsError: it holds NaN or infinity.
    """
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
    """Read the one tensor of a sidecar: int32 codes, or floating-point numbers."""
    try:
        tensor = load(content)[name]
    except (SafetensorError, KeyError) as error:
        raise SampleError(
            f"The {name} of {where} cannot be read: {error}. The shard is damaged; run "
            "'nemo-cosmos tokenize' again into a new folder."
        ) from error
    is_codes = name == _CODES
    fits = tensor.dtype == torch.int32 if is_codes else tensor.is_floating_point()
    if tensor.ndim != num_dims or not fits:
        kind = "torch.int32" if is_codes else "floating-point numbers"
        raise SampleError(
            f"The {name} of {where} has shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            f"expected {num_dims} dimensions of {kind}."
        )
    if not is_codes and not bool(torch.isfinite(tensor).all()):
        raise NumericsError(
            f"The {name} of {where} holds NaN or infinity. Run 'nemo-cosmos tokenize' again with a "
            "tokenizer whose reconstructions look right."
        )
    return tensor


def _out_of_range(latent_CTHW: torch.Tensor, where: str) -> OutOfRangeError:
    return OutOfRangeError(
        f"The latent of {where} reaches a magnitude of {float(latent_CTHW.abs().max()):.3g}; "
        f"expected at most {MAX_LATENT:g}. Check that the tokenizer's statistics are those of its "
        "weights, or leave the clip out."
    )
