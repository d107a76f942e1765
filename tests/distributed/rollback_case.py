"""Train the nano recipe at toy size on every rank, with a sample that spoils its step."""

from __future__ import annotations


def train_with(poison: str, latents: str, folder: str, max_steps: int) -> dict[int, list[str]]:
    """Train; a batch that holds the sample has a loss of NaN on its rank.

    Args:
        poison: the key of the sample; empty for none.
        latents: the data.
        folder: the run's folder is ``run`` below it.
        max_steps: steps to train.

    Returns:
        the keys that this rank saw last in each step.
    """
    import fiddle as fdl

    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from recipes.overrides import apply_overrides
    from recipes.registry import get_recipe

    compute = DiffusionModel.forward_step
    seen: dict[int, list[str]] = {}

    def poisoned(self, batch):
        keys = [key.partition("@")[0] for key in batch["key"]]
        seen[self.trainer.global_step + 1] = keys
        loss_B = compute(self, batch)
        return loss_B * float("nan") if poison in keys else loss_B

    overrides = [
        f"data.path={latents}",
        "data.global_batch_size=4",
        "data.micro_batch_size=2",
        f"log.log_dir={folder}",
        "log.name=run",
        f"trainer.max_steps={max_steps}",
        "trainer.devices=2",
        "trainer.resilience.check_machine=false",
        "trainer.callbacks.SampleVideos.every_n_steps=0",
        "log.ckpt.every_n_train_steps=4",
        "log.ckpt.train_time_interval_s=null",
        "model.config.num_layers=1",
    ]
    recipe = apply_overrides(get_recipe("diffusion_nano_text2world", False), overrides)
    DiffusionModel.forward_step = poisoned
    try:
        fdl.build(recipe)()
    finally:
        DiffusionModel.forward_step = compute
    return seen
