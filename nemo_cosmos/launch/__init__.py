"""Where a command or a recipe runs: in this process, on this machine's devices, or on a cluster.

A :class:`Job` says what runs and what it needs; a :class:`Launcher` runs it::

    site = compose_site()
    job = Job.for_recipe(configure_recipe("diffusion_nano_text2world", [], site, False))
    launcher_for(job, site["cluster"]).run(job)

Imports nothing heavy; a launcher imports NeMo-Run when it runs.
"""

from nemo_cosmos.launch.chain import chain_scripts, run_chain
from nemo_cosmos.launch.job import Job, Launcher, Resources, Started
from nemo_cosmos.launch.kubernetes.launcher import KubernetesLauncher
from nemo_cosmos.launch.kubernetes.settings import KubernetesSettings
from nemo_cosmos.launch.local import LocalLauncher
from nemo_cosmos.launch.ray.launcher import RayLauncher
from nemo_cosmos.launch.ray.settings import RaySettings
from nemo_cosmos.launch.recipe import configure_recipe
from nemo_cosmos.launch.select import LAUNCHERS, launcher_for
from nemo_cosmos.launch.slurm.launcher import SlurmLauncher
from nemo_cosmos.launch.slurm.settings import SlurmSettings
from nemo_cosmos.launch.sweep import sweep_variants
from nemo_cosmos.launch.torchrun import TorchrunLauncher

__all__ = [
    "LAUNCHERS",
    "Job",
    "KubernetesLauncher",
    "KubernetesSettings",
    "Launcher",
    "LocalLauncher",
    "RayLauncher",
    "RaySettings",
    "Resources",
    "SlurmLauncher",
    "SlurmSettings",
    "Started",
    "TorchrunLauncher",
    "chain_scripts",
    "configure_recipe",
    "launcher_for",
    "run_chain",
    "sweep_variants",
]
