"""Every command line of README and docs is executed, in its page's order, at the smallest size.

A story prepares what its page's reader has, and names what stands for sizes that do not fit here.
What no test can execute is in ``ELSEWHERE``, with the reason and what looks at it instead.
"""

from __future__ import annotations

import importlib.util
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.platform import has
from nemo_cosmos.site import SITE_VARIABLE
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents, write_world
from nemo_cosmos.video import Video, encode_video

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"```bash\n(.*?)```", re.DOTALL)
TEXT_DIM, TEXT_LENGTH = 512, 32  # of the embedded encoder and the nano recipes
ENCODER = {"kind": "embedded", "path": None, "max_length": TEXT_LENGTH, "dim": TEXT_DIM}

# Words that come behind a page's own, so that a command does not take long.
SAMPLING = ["--steps", "1", "--disable-guard", "face_blur"]
STEP = ["trainer.max_steps=1", "data.global_batch_size=1", "data.micro_batch_size=1"]
WHOLE = ["--split", "none", "--min-clip-s", "0.1", "--min-motion", "0", "--min-patch-motion", "0"]
CURATION = ["--executor", "inline", "--skip", "all"]
NANO = {"diffusion_7b_action": "diffusion_nano_action"}
NANO |= {"diffusion_7b_video2world": "diffusion_nano_video2world"}

#: Beginnings of lines that are not executed here: why, or which test executes them.
ELSEWHERE = {
    "make ": "installs; continuous integration is made of these targets",
    "python3.11 -m venv": "installs",
    ".venv/bin/pip install": "installs",
    ".venv/bin/nemo-cosmos quickstart": "tests/e2e/test_quickstart.py walks the road",
    ".venv/bin/python -m pytest": "this suite",
    "nemo-cosmos plan ": "test_examples.py executes it as it is written",
    "nemo-cosmos trial ": "refuses an untrained world; test_trial.py and test_data_engine.py do it",
    "nemo-cosmos pretrain --factory diffusion_7b_text2world --conf": "a dry run; so does it",
    "nemo-cosmos finetune --factory diffusion_14b_video2world --conf": "lays out eight GPUs; "
    "test_examples.py resolves it",
    "nemo-cosmos convert driving": "of a car's cameras; post_training/driving/test_conversion.py",
    "nemo-cosmos dataset shard": "of those drives; data/shards/test_writer.py",
    "nemo-cosmos dataset lerobot data/robot": "of them, too; test_lerobot_writing.py",
    "nemo-cosmos dataset inspect data/robot": "of simulated episodes; test_inspection.py",
    "nemo-cosmos logs": "follows a job; the tests of launch start some",
    "nemo-cosmos cancel": "ends it; so do they",
    "nemo-cosmos evaluate GENERATED TRUTH --suite": "of videos with cameras beside them, which the "
    "tests of evaluation/geometry write",
    "nemo-cosmos simulate real --episodes": "thirty-two episodes; test_simulation.py films some",
    "nemo-cosmos simulate held_out --episodes": "the same",
    "nemo-cosmos evaluate --model outputs/quickstart/action_world/export --data held_out": "of "
    "those episodes; the trial before it is the same command",
    "nemo-cosmos simulate raw/physics --scene": "the tests of post_training/physics film some",
    "nemo-cosmos simulate raw/held_out --scene": "the same",
    "nemo-cosmos evaluate --model world/export --data raw/physics": "of those films; their tests",
    "nemo-cosmos evaluate GENERATED raw/physics": "the same",
    "python benchmarks/tracking.py": "measures for minutes; the tests of evaluation/tracking",
    "python benchmarks/physics.py": "measures for minutes; the tests of evaluation/physics",
    "python benchmarks/ar_decode.py": "wants a trained world; test_decoding.py compares the codes",
    "python benchmarks/ar_held_out.py": "wants a trained world and its tokenized clips",
    "python benchmarks/ar_plain.py": "measures for minutes",
    "python benchmarks/ar_trees.py": "the same; it counts by the walk that decoding takes",
    "NEMO_COSMOS_SAMPLES=samples python benchmarks": "of videos that no package carries",
    "nemo-cosmos pretrain --factory tokenizer_nano_dv4x8x8": "64,000 codes take a while; "
    "models/autoregressive/test_world.py walks this road",
    "nemo-cosmos tokenize shards codes": "test_world.py, too",
    "nemo-cosmos pretrain --factory ar_nano": "test_world.py, too",
    "nemo-cosmos heads outputs/ar_nano": "test_world.py, too",
    "nemo-cosmos predict outputs/ar_nano": "test_world.py, too",
    "nemo cosmos finetune": "test_train.py, without NeMo-Run's question whether to go on",
    "docker ": "needs a registry and a GPU; tests/unit/test_gpu_image.py reads the Dockerfile",
    "export PIP_CONSTRAINT=": "inside the image",
    "grep -vE": "inside the image",
    "pip install": "installs",
    "cd / && python": "inside the image",
    "PYTHONPATH=$PWD python3 tests/gpu/first_run.py": "on a GPU; tests/gpu/test_first_run.py",
    "torchrun --nproc-per-node 2": "on two processes of a pool in tests/distributed",
    "python -m nemo_cosmos.guardrails.text.train_classifier": "writes the classifier that the "
    "package carries; tests/unit/guardrails/text/test_train_classifier.py, elsewhere",
    # The quickstart's own commands on more episodes, for a longer time.
    "nemo-cosmos simulate more/raw": "tests/e2e/test_quickstart.py walks the road",
    "nemo-cosmos curate more/raw": "so it does",
    "nemo-cosmos tokenize more/shards": "so it does",
    "nemo-cosmos finetune --factory diffusion_nano_action --from outputs/quickstart": "so it does",
    "nemo-cosmos finetune --factory diffusion_nano_action --from more/": "so it does",
}


class Page:
    """The command lines of a page, to be executed one after the other.

    Args:
        path: the page.
        request: the test's.
    """

    def __init__(self, path: Path, request: pytest.FixtureRequest) -> None:
        blocks = "\n".join(SHELL.findall(path.read_text(encoding="utf-8"))).replace("\\\n", " ")
        self.lines = [line for line in blocks.splitlines() if line.strip()]
        self.left = [line for line in self.lines if not line.startswith(tuple(ELSEWHERE))]
        self._run_cli = request.getfixturevalue("run_cli")
        self._monkeypatch = request.getfixturevalue("monkeypatch")

    def run(self, start: str, *more: str, **smaller: str) -> None:
        """Execute the next line, as a person would in the present folder.

        Args:
            start: how the line begins.
            *more: words behind its own.
            **smaller: what stands for words of it here; each must be there.
        """
        line = self.left.pop(0)
        assert line.startswith(start)
        words = shlex.split(line, comments=True)
        for name, here in smaller.items():
            assert name in words, (name, line)
            words[words.index(name)] = here
        words = [NANO.get(word, word) for word in words]
        with self._monkeypatch.context() as patch:
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            if "<" in words:
                *words, _, file = words
                text = io.BytesIO(Path(file).read_bytes())
                patch.setattr(sys, "stdin", io.TextIOWrapper(text))
            assert words.pop(0) == "nemo-cosmos"
            ran = self._run_cli(*words, *more)
        assert ran.code == Exit.DONE, (line, ran.err)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with the settings of a new user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    return tmp_path


def world(folder: str, *controls: str) -> Path:
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    return write_world(
        folder, controls=controls, text_encoder=ENCODER, crossattn_emb_channels=TEXT_DIM
    )


def latents(tokenizer: Path) -> None:
    clips = Clips(text_dim=TEXT_DIM, width=48, with_actions=True)
    write_latents("latents", clips, tokenizer=tokenizer, text_encoder=ENCODER)


def frames(num_frames: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num_frames, 32, 48, 3), dtype=np.uint8)


def clip(path: str, num_frames: int = 9) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, Video(frames(num_frames), fps=10))


def clear(*folders: str) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def starts() -> None:
    """What a prediction starts from."""
    Image.fromarray(frames(1)[0]).save("first.png")
    np.save("actions.npy", np.zeros((8, 7), np.float32))
    for name in ("clip.mp4", "episode.mp4"):
        clip(name)


def maker(file: str) -> ModuleType:
    """A module of other tests that makes data sets of the smallest size."""
    path = ROOT / "tests/unit/post_training/robotics" / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def readme(page: Page) -> None:
    from nemo_cosmos import api

    api.export_ckpt(world("tiny"), "Cosmos-1.0-Diffusion-7B-Video2World", "diffusers")
    page.run("nemo-cosmos import")
    world("worlds/7b")  # with a text encoder that is at hand
    page.run("nemo-cosmos generate worlds/7b", *SAMPLING)
    latents(Path("worlds/7b/tokenizer"))
    page.run("nemo-cosmos finetune", *STEP)
    assert Path("outputs/diffusion_nano_action/export/model.safetensors").is_file()
    clear("outputs", "latents")
    the_whole_road(page)
    clear("outputs", "latents")
    latents(Path("worlds/7b/tokenizer"))
    page.run("nemo-cosmos finetune --factory diffusion_7b_video2world", *STEP)


def the_whole_road(page: Page) -> None:
    small = ["--frames", "17", "--size", "32x48", "--workers", "0", "--renderer", "software"]
    page.run("nemo-cosmos simulate", *small, **{"200": "1"})
    page.run("nemo-cosmos simulate data/physics", "--episodes", "1", *small[:-2])
    Path("raw").symlink_to("data/robot")
    page.run("nemo-cosmos curate", *WHOLE, *CURATION)
    page.run("nemo-cosmos transcode", "--executor", "inline")
    window = ["data.size=[32,48]", "data.num_frames=9"]
    page.run("nemo-cosmos pretrain --factory tokenizer", *STEP, *window)
    window = ["--window-frames", "9", "--size", "32x48", "--text-length", str(TEXT_LENGTH)]
    page.run("nemo-cosmos tokenize", *window, "--text-encoder", "embedded")
    page.run("nemo-cosmos pretrain --factory diffusion", *STEP)
    page.run("nemo-cosmos finetune", *STEP)
    assert Path("outputs/diffusion_nano_action/export/model.safetensors").is_file()
    starts()
    world("MODEL")
    page.run("nemo-cosmos generate", *SAMPLING)
    world("MODEL", "action")
    page.run("nemo-cosmos predict", *SAMPLING)
    world("MODEL")
    page.run("nemo-cosmos extend", *SAMPLING)
    for name in ("generated", "truth"):
        clip(f"{name}/a.mp4")
    page.run("nemo-cosmos evaluate", "--metric", "psnr")
    world("MODEL", "action")
    recordings(Path("episodes"))
    page.run("nemo-cosmos evaluate --model", "--option", "steps=1", "--option", "guidance=0")
    page.run("nemo-cosmos models")
    page.run("nemo-cosmos status")
    page.run("nemo-cosmos export")
    assert Path("my_world/model_index.json").is_file()


def adapters(page: Page) -> None:
    latents(world("worlds/7b") / "tokenizer")
    starts()
    quick = ["optim.config.lr=0.1", "optim.lr_scheduler.warmup_steps=1"]
    page.run("nemo-cosmos finetune", *STEP, *quick)
    page.run("nemo-cosmos predict", *SAMPLING)
    page.run("nemo-cosmos export worlds/7b worlds/7b_rain")
    assert Path("worlds/7b_rain/model.safetensors").is_file()
    page.run("nemo-cosmos export worlds/7b rain_pipeline")
    page.run("nemo-cosmos export outputs/rain/adapter")
    assert Path("rain_hf/pytorch_lora_weights.safetensors").is_file()


def checkpoints(page: Page) -> None:
    from nemo_cosmos import api

    tiny = world("tiny")
    api.export_ckpt(tiny, "Cosmos-1.0-Diffusion-7B-Text2World-Diffusers", "diffusers")
    page.run("nemo-cosmos import")
    api.export_ckpt(tiny, "Cosmos-1.0-Diffusion-14B-Video2World", "cosmos")
    shutil.copytree(tiny / "tokenizer", "Cosmos-1.0-Tokenizer-CV8x8x8")
    page.run("nemo-cosmos import")
    assert Path("worlds/14b/model.safetensors").is_file()
    page.run("nemo-cosmos export")


def commands(page: Page) -> None:
    latents(world("outputs/world/export") / "tokenizer")
    clip("raw/a.mp4", 30)
    page.run("nemo-cosmos finetune")
    page.run("nemo-cosmos curate")
    assert not Path("outputs/curated").exists()


def evaluation(page: Page) -> None:
    for name in ("GENERATED", "TRUTH"):
        clip(f"{name}/a.mp4")
    page.run("nemo-cosmos evaluate", "--metric", "psnr")
    assert list(Path("outputs/evaluation").iterdir())
    trial(page, Path(), **{"steps=12": "steps=1", "action_sensitivity>0": "action_sensitivity>-9"})
    tiny_tokenizer().save("tokenizer/export")
    page.run("nemo-cosmos evaluate --tokenizer")
    assert Path("outputs/tokenizer/evaluation.html").is_file()


def trial(page: Page, root: Path, **smaller: str) -> None:
    """A world on trial; it has not been trained, and obeys by chance."""
    world(str(root / "action_world/export"), "action")
    recordings(root / "raw/held_out")
    page.run("nemo-cosmos evaluate --model", **smaller)


def recordings(episodes: Path) -> None:
    """Two episodes with their actions."""
    for number, name in enumerate(("a", "b")):
        clip(str(episodes / f"{name}.mp4"))
        (episodes / f"{name}.json").write_text('{"caption": "the arm moves"}')
        np.save(episodes / f"{name}.action.npy", np.full((8, 7), number, np.float32))


def post_training(page: Page) -> None:
    world("worlds/7b")
    recordings(Path("data/my_robot"))
    shutil.copytree("data/my_robot", "data/my_robot_held_out")
    page.run("nemo-cosmos dataset inspect")
    page.run("nemo-cosmos curate", *CURATION, **{"0.5": "0.1"})
    page.run("nemo-cosmos tokenize", **{"17": "9", "256x320": "32x48"})
    page.run("nemo-cosmos finetune", *STEP)
    page.run("nemo-cosmos evaluate --model", "--option", "steps=1")
    assert Path("outputs/my_robot/trial/evaluation.json").is_file()


def results(page: Page) -> None:
    smaller = {"steps=16": "steps=1", "action_sensitivity>0.2": "action_sensitivity>-9"}
    trial(page, Path("outputs/quickstart"), **smaller)
    tiny_tokenizer().save("outputs/quickstart/tokenizer/export")
    page.run("nemo-cosmos evaluate --tokenizer")
    assert Path("outputs/reconstruction/evaluation.json").is_file()


def generation(page: Page) -> None:
    world("my_world")
    world("my_robot", "action")
    starts()
    page.run("nemo-cosmos generate", *SAMPLING)
    page.run("nemo-cosmos predict", *SAMPLING)
    page.run("nemo-cosmos extend", *SAMPLING)
    assert Path("rain.mp4").is_file() and Path("rain.json").is_file()


def gpu_training(page: Page) -> None:
    page.run("nemo-cosmos configure")
    assert "CUDA_DEVICE_MAX_CONNECTIONS=32" in Path("site.txt").read_text(encoding="utf-8")


def guardrails(page: Page) -> None:
    page.run("nemo-cosmos guard text")
    Path("prompts.txt").write_text("a red block\na street in the rain\n", encoding="utf-8")
    page.run("nemo-cosmos guard text -")
    page.run("nemo-cosmos configure")
    Path("site.txt").unlink()  # its model is on no machine of this name
    page.run("NEMO_COSMOS_LANGUAGES=any")
    while page.left[0].startswith("python benchmarks/guards.py"):
        measure_guards(page)
    clip("outputs/world.mp4")
    page.run("nemo-cosmos guard video")
    page.run("nemo-cosmos audit verify")
    page.run("nemo-cosmos status")
    shutil.copy("safe.mp4", "reuploaded.mp4")
    page.run("nemo-cosmos guard provenance")


def measure_guards(page: Page) -> None:
    """Run the benchmark, on a few prompts."""
    program, *words = shlex.split(page.left.pop(0))[1:]
    pattern = words[words.index("--prompts") + 1]
    assert list(ROOT.glob(pattern))
    files = [file.read_text(encoding="utf-8").splitlines() for file in ROOT.glob(pattern)]
    few = [line for lines in files for line in lines[-2:]]
    Path("few.tsv").write_text("\n".join(few) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        few_words = ["few.tsv" if word == pattern else word for word in words]
        patch.setattr(sys, "argv", [program, *few_words])
        runpy.run_path(str(ROOT / program), run_name="__main__")


def install(page: Page) -> None:
    page.run("nemo-cosmos configure")
    assert "registry.example.com" in Path("site.txt").read_text(encoding="utf-8")


def launch(page: Page) -> None:
    page.run("nemo-cosmos finetune")
    page.run("nemo-cosmos configure")
    while page.left:
        page.run("nemo-cosmos ")


def long_runs(page: Page) -> None:
    page.run("nemo-cosmos pretrain")


def robot_data(page: Page) -> None:
    if not has("pyarrow"):
        pytest.skip("pyarrow is not installed (extra 'curation')")
    maker("test_bridge.py").make_recording(Path("data/bridge"), "7")
    page.run("nemo-cosmos convert bridge")
    page.run("nemo-cosmos dataset inspect")
    maker("test_lerobot.py").make_v2(Path("data/aloha"))
    page.run("nemo-cosmos convert lerobot")
    shutil.copytree(ROOT / "tests/unit/post_training/robotics/rlds_by_tfds", "data/oxe")
    page.run("nemo-cosmos convert rlds")
    page.run("nemo-cosmos curate", *CURATION)


STORIES: dict[str, Callable[[Page], None]] = {
    "adapters.md": adapters,
    "README.md": readme,
    "checkpoints.md": checkpoints,
    "commands.md": commands,
    "evaluation.md": evaluation,
    "generation.md": generation,
    "gpu_training.md": gpu_training,
    "guardrails.md": guardrails,
    "install.md": install,
    "launch.md": launch,
    "long_runs.md": long_runs,
    "post_training.md": post_training,
    "results.md": results,
    "robot_data.md": robot_data,
}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_line_runs_in_its_order(path, request):
    page = Page(path, request)
    if page.left:
        STORIES[path.name](page)
    assert not page.left, "every line has its part in the story, or a reason in ELSEWHERE"


def test_what_is_not_executed_is_there_and_bash_can_read_it():
    text = "\n".join("\n".join(SHELL.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    lines = [line for line in text.splitlines() if line.startswith(tuple(ELSEWHERE))]
    for start in ELSEWHERE:
        assert any(line.startswith(start) for line in lines), start
    read = subprocess.run(
        ["bash", "-n"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= made
