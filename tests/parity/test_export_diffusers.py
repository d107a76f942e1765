"""An exported world model runs in diffusers' pipelines and gives our pipeline's latents."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import load_world, save_world
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.models.common.text import load_text_encoder
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process import samplers
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.settings import DiffusionSettings
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.video import frames_to_tensor

TOLERANCE = 1e-4
TEXT_DIM, TEXT_LENGTH = 16, 12
PROMPT, NEGATIVE = "the arm lifts the cube", "dark"
SIZE = {"height": 32, "width": 48, "num_frames": 9}
STEPS, GUIDANCE, FPS, SEED = 5, 3.0, 10, 4
SHAPE = (1, 16, 3, 4, 6)


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    """A random T5 of the smallest size with a vocabulary of words, in a pipeline's two folders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", *f"{PROMPT} {NEGATIVE}".split()]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder / "tokenizer")
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=len(vocabulary), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


def build_world(folder: Path, video2world: bool, t5: Path) -> Path:
    ensure_model_parallel()
    generator = torch.Generator().manual_seed(5)
    config = DiTConfig(
        num_layers=2, hidden_size=48, num_attention_heads=2, crossattn_emb_channels=TEXT_DIM,
        adaln_lora_dim=8, max_frames=4, max_height=16, max_width=16, condition_mask=video2world,
        rope_ratios_thw=(2.0, 1.0, 1.0), layer_spec="local",
    )  # fmt: skip
    process = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=2 if video2world else 0)
    )
    net = build_network(config, process)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    tokenizer = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    stats = LatentStats(torch.randn(16, generator=generator), torch.full((16,), 0.7))
    world = WorldConfig(
        family="diffusion",
        model=DiffusionSettings(config.architecture(), process),
        text_encoder={
            "kind": "t5",
            "path": str(t5),
            "max_length": TEXT_LENGTH,
            "dim": TEXT_DIM,
        },
        video={**SIZE, "fps": FPS},
    )
    save_world(folder, net, world, VideoTokenizer(TokenizerNetwork(tokenizer), stats))
    return folder


class Checker:
    """What stands for cosmos_guardrail, which this machine does not have: it lets all pass."""

    def to(self, _: object) -> None: ...

    def check_text_safety(self, _: str) -> bool:
        return True


class AllowAll:
    """Our own guards, likewise."""

    name = "allow_all"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def check(self, _: object) -> Verdict:
        return Verdict(True, self.name, "safe", "")


def load_pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from diffusers import DiffusionPipeline
    from diffusers.models.transformers import transformer_cosmos

    def resize(mask: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
        return F.interpolate(mask, size=size, mode=interpolation)

    transforms = SimpleNamespace(  # of torchvision, which has no build beside torch for the CPU
        functional=SimpleNamespace(resize=resize),
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", transforms, raising=False)
    pipeline = DiffusionPipeline.from_pretrained(folder, safety_checker=Checker())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def our_latents(world: Path, monkeypatch, tmp_path: Path, given=None) -> torch.Tensor:
    """What our pipeline hands to its tokenizer's decoder, in the network's units."""
    loaded = load_world(world)
    latents = []
    decode = loaded.tokenizer.decode

    def recording(z: torch.Tensor) -> torch.Tensor:
        latents.append(z * loaded.config.model.process.edm.sigma_data)
        return decode(z)

    monkeypatch.setattr(loaded.tokenizer, "decode", recording)
    encoder = load_text_encoder(loaded.config.text_encoder)
    guards = GuardPolicy(
        [AllowAll("prompt"), AllowAll("video")], audit=AuditLog(tmp_path / "audit.jsonl")
    )
    pipe = WorldPipeline(loaded, encoder, guards)
    options = {"sampler": "edm_euler", "steps": STEPS, "guidance": GUIDANCE, "seed": SEED}
    options["negative_prompt"] = NEGATIVE
    if given is None:
        pipe.generate(PROMPT, **options)
    else:
        pipe.predict(PROMPT, given, num_condition_frames=len(given), **options)
    return latents[0]


def call(pipeline, **arguments) -> torch.Tensor:
    return pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        fps=FPS,
        latents=samplers.seeded_noise(SHAPE, SEED),
        max_sequence_length=TEXT_LENGTH,
        output_type="latent",
        **SIZE,
        **arguments,
    ).frames


def test_text_to_world(t5, tmp_path, monkeypatch):
    world = build_world(tmp_path / "world", False, t5)
    export_checkpoint(world, tmp_path / "hf", "diffusers")
    pipeline = load_pipeline(tmp_path / "hf", monkeypatch)
    assert type(pipeline).__name__ == "CosmosTextToWorldPipeline"
    # diffusers' pipeline asks for sides that are multiples of 16 and for nothing else.
    theirs = call(pipeline)
    ours = our_latents(world, monkeypatch, tmp_path)
    assert theirs.std() > 0.1
    print("largest difference:", (ours - theirs).abs().max().item())
    assert (ours - theirs).abs().max() <= TOLERANCE
    again = import_checkpoint(tmp_path / "hf", tmp_path / "again")
    assert torch.equal(our_latents(again, monkeypatch, tmp_path), ours)


def test_video_to_world(t5, tmp_path, monkeypatch):
    """The noise on given frames, which diffusers draws again at every step, stays the same here."""
    world = build_world(tmp_path / "world", True, t5)
    export_checkpoint(world, tmp_path / "hf", "diffusers")
    pipeline = load_pipeline(tmp_path / "hf", monkeypatch)
    module = sys.modules[type(pipeline).__module__]
    assert type(pipeline).__name__ == "CosmosVideoToWorldPipeline"
    noise = samplers.seeded_noise(SHAPE, SEED)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise)
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    video = frames_to_tensor(frames)[None]
    monkeypatch.setattr(pipeline.video_processor, "preprocess_video", lambda *_: video)
    theirs = call(pipeline, video=list(frames))
    ours = our_latents(world, monkeypatch, tmp_path, frames)
    assert theirs[:, :, 2:].std() > 0.1
    print("largest difference:", (ours - theirs).abs().max().item())
    assert (ours - theirs).abs().max() <= TOLERANCE
