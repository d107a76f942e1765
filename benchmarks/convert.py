"""Peak memory of converting a world model between formats, and what follows for 14B.

    python benchmarks/convert.py --layers 12 --width 2048

Each conversion runs in a process of its own. ``peak_gb`` is the most memory that was resident,
``anonymous_gb`` the part of it that is not a mapped file, which the kernel may drop at any time.
Afterwards the weights that came back are compared with those that left.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

CONVERSIONS = [
    (command, format) for format in ("diffusers", "cosmos", "nemo") for command in ("out", "back")
]


def build(folder: Path, layers: int, width: int) -> None:
    """A world folder of random bfloat16 weights, written tensor by tensor."""
    import torch

    from nemo_cosmos.checkpoint.diffusion.descriptions import published_world
    from nemo_cosmos.checkpoint.formats.tensors import TensorSpec, TensorStream, named_tensors
    from nemo_cosmos.checkpoint.world.folder import meta_network, write_world
    from nemo_cosmos.models.diffusion.presets import get_diffusion_preset
    from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
    from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    tokenizer = VideoTokenizer(TokenizerNetwork(TOKENIZERS["tokenizer_nano_cv4x8x8"]))
    preset = get_diffusion_preset("diffusion_7b_text2world")
    size = {"num_layers": layers, "hidden_size": width, "num_attention_heads": width // 128}
    preset = replace(preset, network={**preset.network, **size})
    config = published_world(preset, tokenizer.config)
    specs = {
        name: TensorSpec(tuple(value.shape), torch.bfloat16)
        for name, value in named_tensors(meta_network(config, tokenizer.config)).items()
    }
    tensors = ((name, torch.randn(spec.shape).bfloat16()) for name, spec in specs.items())
    write_world(folder, config, TensorStream(specs, tensors), tokenizer, place="random weights")


def memory_gb(field: str) -> float:
    """One line of this process's status."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(field)


def convert(command: str, format: str, folder: Path) -> None:
    """One conversion, watched; prints its peaks."""
    from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel()
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], memory_gb("RssAnon"))

    before = memory_gb("RssAnon")
    watcher = threading.Thread(target=watch)
    watcher.start()
    begin_s = time.perf_counter()
    if command == "out":
        export_checkpoint(folder / "world", folder / format, format)
    else:
        import_checkpoint(folder / format, folder / f"from_{format}")
    seconds = time.perf_counter() - begin_s
    done.set()
    watcher.join()
    result = {
        "conversion": f"{'to' if command == 'out' else 'from'} {format}",
        "seconds": round(seconds, 1),
        "peak_gb": round(memory_gb("VmHWM"), 2),
        "anonymous_gb": round(peak[0], 2),
        "anonymous_before_gb": round(before, 2),
    }
    print(json.dumps(result), flush=True)


def assert_equal(left: Path, right: Path) -> tuple[float, float]:
    """Compare two world folders; return their size and that of the largest tensor in GB."""
    import torch

    from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource

    one, other = (SafetensorsSource(path / "model.safetensors") for path in (left, right))
    assert one.specs == other.specs
    for name in one.specs:
        assert torch.equal(one.read(name), other.read(name)), name
    sizes = [spec.num_bytes / 1e9 for spec in one.specs.values()]
    return sum(sizes), max(sizes)


def main() -> None:
    """Build a world, convert it there and back in every format, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--step", nargs=3)
    options = parser.parse_args()
    if options.step:
        command, format, folder = options.step
        convert(command, format, Path(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "world", options.layers, options.width)
        for command, format in CONVERSIONS:
            words = [sys.executable, "-W", "ignore", __file__, "--step", command, format, name]
            subprocess.run(words, check=True)
            if command == "back":
                size_gb, largest_gb = assert_equal(folder / "world", folder / f"from_{format}")
                subprocess.run(["rm", "-r", folder / format, folder / f"from_{format}"], check=True)
        print(json.dumps({"weights_gb": round(size_gb, 2), "largest_gb": round(largest_gb, 3)}))


if __name__ == "__main__":
    main()
