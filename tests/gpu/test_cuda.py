"""The same code on a CUDA device; skipped where there is none."""

import copy

import numpy as np
import pytest
import torch

from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.platform import default_device, ensure_model_parallel, has, install_cpu_backend
from nemo_cosmos.video import Video, decode, encode_video

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_cpu_backend_does_nothing_where_cuda_is():
    synchronize = torch.cuda.synchronize
    assert install_cpu_backend() is False
    assert torch.cuda.synchronize is synchronize
    assert default_device().type == "cuda"


def test_dit_is_the_same_as_on_the_cpu():
    ensure_model_parallel()
    config = DIFFUSION["diffusion_nano_video2world"].config(
        use_cpu_initialization=True, layer_spec="local"
    )
    net = DiT(config)
    x_BCTHW, text_BLD = torch.randn(2, 16, 5, 8, 8), torch.randn(2, 7, 512)
    c_noise, fps_B = torch.randn(2), torch.full((2,), 24.0)
    with torch.no_grad():
        on_cpu = net(NetworkInput(x_BCTHW, c_noise, text_BLD, fps_B=fps_B))
        net.cuda()
        on_gpu = net(
            NetworkInput(x_BCTHW.cuda(), c_noise.cuda(), text_BLD.cuda(), fps_B=fps_B.cuda())
        )
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-4, rtol=1e-3)


def test_tokenizer_is_the_same_as_on_the_cpu():
    net = TokenizerNetwork(TOKENIZERS["tokenizer_nano_cv4x8x8"]).eval()
    moved = copy.deepcopy(net).cuda()
    video_BCTHW = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    # TF32 keeps ten bits of a convolution's inputs, and cuDNN takes it unless told otherwise.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        latent = net.encode(video_BCTHW)
        torch.testing.assert_close(
            moved.encode(video_BCTHW.cuda()).cpu(), latent, atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(
            moved.decode(latent.cuda()).cpu(), net.decode(latent), atol=1e-3, rtol=1e-3
        )


@pytest.mark.skipif(not has("nvidia.dali"), reason="DALI is not installed")
def test_dali_decodes_on_the_gpu_what_pyav_decodes(moving_square_THWC, tmp_path):
    encode_video(tmp_path / "v.mp4", Video(moving_square_THWC, fps=10.0))
    on_gpu = decode(tmp_path / "v.mp4", backend="dali").frames_THWC
    on_cpu = decode(tmp_path / "v.mp4", backend="pyav").frames_THWC
    difference = np.abs(on_gpu.astype(int) - on_cpu.astype(int))
    assert difference.mean() < 1.0


needs_te = pytest.mark.skipif(
    not has("transformer_engine"), reason="Transformer Engine is not installed"
)


@needs_te
def test_the_optimiser_is_fused():
    import megatron.core.optimizer as optimizers

    assert not optimizers.USING_PYTORCH_OPTIMIZER
    assert optimizers.Adam.__module__.split(".")[0] in ("transformer_engine", "apex")
