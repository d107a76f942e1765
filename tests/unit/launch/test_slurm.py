"""Scripts for Slurm: what they say, and what they do where a shell runs them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError, InputError, ServiceError
from nemo_cosmos.exits import THEN, Exit, Then, what_then
from nemo_cosmos.launch import Job, Resources, SlurmLauncher, SlurmSettings, run_chain
from nemo_cosmos.launch.jobs.record import read_records
from nemo_cosmos.launch.settings import read_settings

JOB_NUMBER = "42"
#: Stand-ins for Slurm's programs on a machine without Slurm, and for the interpreter of a job.
PROGRAMS = {
    "srun": """
while [[ $1 == --* ]]; do echo "$1" >> "$RECORDS/srun"; shift; done
for ((i = 0; i < ${TASKS:-1}; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$((i % 2)) SLURM_NODEID=$((i / 2)) SLURM_NTASKS=$TASKS "$@" || exit
done""",
    "scontrol": """
case "$1 $2" in
  "show hostnames") printf 'n1\\nn2\\n' ;;
  "show node") echo "NodeName=$3 NodeAddr=10.0.0.1 NodeHostName=box Port=17001" ;;
  "show job") echo "   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=${PREEMPTED:-None}" ;;
  *) echo "$*" >> "$RECORDS/requeued" ;;
esac""",
    "python": """
echo "${RANK-alone} of ${WORLD_SIZE-1}, ${LOCAL_RANK-} of ${LOCAL_WORLD_SIZE-} on ${NODE_RANK-}" \
  "at ${MASTER_ADDR-}:${MASTER_PORT-}" >> "$RECORDS/ranks"
printf '%s\\0' "$@" > "$RECORDS/words"
cat "$NEMO_COSMOS_SITE" > "$RECORDS/site"
[ -z "${REASON:-}" ] || printf "$REASON" > "$NEMO_COSMOS_EXIT_FILE"
exit "${CODE:-0}"
""",
    "sbatch": """
echo "$*" >> "$RECORDS/submitted"
number=$(wc -l < "$RECORDS/submitted")
if [ "$number" = "${REFUSED:-}" ]; then
  echo "sbatch: error: Batch job submission failed: ${SAID}" >&2
  exit 1
fi
echo "$((100 + number));cluster"
""",
    "squeue": 'cat "$RECORDS/queue" 2> /dev/null || true',
    "sacct": "exit 1",
    "scancel": 'echo "$*" >> "$RECORDS/cancelled"',
}


class Shell(NamedTuple):
    """A shell in which the stand-ins are found.

    Attributes:
        bin: their folder.
        records: what they were told, one file each.
    """

    bin: Path
    records: Path

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script as Slurm would on the first machine of a job."""
        path = self.bin / "job.sbatch"
        path.write_text(script)
        given = {"SLURM_JOB_ID": JOB_NUMBER, "SLURM_JOB_NODELIST": "n[1-2]", **variables}
        return subprocess.run(
            ["bash", str(path)], env={**os.environ, **given}, capture_output=True, text=True
        )

    def told(self, name: str) -> str:
        """What a program was told; empty where it was not called."""
        path = self.records / name
        return path.read_text() if path.exists() else ""

    @property
    def words(self) -> list[str]:
        """The words that the interpreter got last."""
        return self.told("words").split("\0")[:-1]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    found = Shell(tmp_path / "bin", tmp_path / "records")
    found.records.mkdir()
    found.bin.mkdir()
    for name, text in PROGRAMS.items():
        (found.bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (found.bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORDS", str(found.records))
    return found


@pytest.fixture(autouse=True)
def own_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def command(*words: str, nodes: int = 1, devices: int = 1, **more: object) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices), **more)  # type: ignore[arg-type]


@pytest.fixture
def launcher(shell: Shell, tmp_path: Path) -> Callable[..., SlurmLauncher]:
    def make(**settings: object) -> SlurmLauncher:
        (tmp_path / "logs").mkdir(exist_ok=True)
        given = {"python": str(shell.bin / "python"), "job_dir": str(tmp_path / "logs")}
        return SlurmLauncher(SlurmSettings(**{**given, **settings}))  # type: ignore[arg-type]

    return make


def flags(script: str) -> set[str]:
    return set(re.findall(r"^#SBATCH --(.*)$", script, re.MULTILINE))


def test_a_script_asks_for_what_the_site_and_the_job_say(launcher, tmp_path):
    settings = {"account": "robotics", "time": "1-00:00:00", "cpus_per_task": 14}
    script = launcher(**settings, sbatch={"licenses": "fs:1", "no-kill": ""}).script(
        command("evaluate", "a", "b", nodes=2, devices=4)
    )
    wanted = {"account=robotics", "time=1-00:00:00", "nodes=2", "ntasks-per-node=4", "mem=0"}
    wanted |= {"exclusive", "gpus-per-node=8", "licenses=fs:1", "no-kill", f"chdir={tmp_path}"}
    wanted |= {f"output={tmp_path}/logs/evaluate-%j.log", "cpus-per-task=14"}
    assert flags(script) >= wanted
    assert not [flag for flag in flags(script) if flag.startswith(("partition", "qos", "array"))]
    alone = launcher(exclusive=False).script(command("evaluate", devices=4))
    assert "gpus-per-node=4" in flags(alone) and "exclusive" not in flags(alone)
    without = flags(launcher(gpus_per_node=0).script(command("evaluate")))
    assert not any(flag.startswith("gpus") for flag in without)


def test_every_rank_knows_its_place(shell, launcher):
    script = launcher().script(command("evaluate", "a", "b", nodes=2, devices=2))
    ended = shell.run(script, TASKS="4")
    assert ended.returncode == 0, ended.stderr
    assert shell.told("ranks").splitlines() == [
        f"{rank} of 4, {rank % 2} of 2 on {rank // 2} at 10.0.0.1:20042" for rank in range(4)
    ]
    assert shell.words == ["-m", "nemo_cosmos", "evaluate", "a", "b"]
    assert "--label" in shell.told("srun") and "--cpu-bind=none" in shell.told("srun")


def test_one_process_is_no_rank(shell, launcher):
    assert shell.run(launcher().script(command("curate", "raw", "shards"))).returncode == 0
    assert shell.told("ranks").startswith("alone of 1,")


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_words_arrive_as_they_were_given(shell, launcher, num_ranks):
    prompt = 'it\'s a "red" block; $HOME `date` \\ \n  --on the second line'
    words = ["generate", "my world", "--prompt", prompt, "--out=a b.mp4", "--check", "-o", ""]
    script = launcher().script(command(*words, devices=num_ranks))
    assert shell.run(script, TASKS=str(num_ranks)).returncode == 0
    assert shell.words == ["-m", "nemo_cosmos", *words]


def test_each_task_of_a_sweep_has_its_own_words(shell, launcher):
    variants = [("lr=1e-5", "log.name=a-lr-1e-5"), ("lr=1e-4", "log.name=a b")]
    script = launcher(sweep_at_once=1).script(command("pretrain", "x=1", variants=variants))
    assert "array=0-1%1" in flags(script)
    for place, variant in enumerate(variants):
        assert shell.run(script, SLURM_ARRAY_TASK_ID=str(place)).returncode == 0
        assert shell.words == ["-m", "nemo_cosmos", "pretrain", "x=1", *variant]


@pytest.mark.parametrize(
    ("option", "instead"),
    [("array", "--sweep"), ("time", "cluster.time"), ("ntasks-per-node", "--devices")],
)
def test_an_option_that_scripts_rely_on_has_its_own_key(launcher, option, instead):
    with pytest.raises(ConfigError, match=f"'{option}', which jobs here set.* {instead} instead"):
        launcher(sbatch={option: "1"})


def test_a_program_that_is_none_is_refused_before_it_is_queued(launcher, tmp_path):
    (tmp_path / "text").write_text("")
    with pytest.raises(ConfigError, match="is no program"):
        launcher(python=str(tmp_path / "text")).check(command("curate"))
    for name in ("python", "container_image"):
        with pytest.raises(ConfigError, match=f"{name} is '.*', a folder"):
            launcher(**{name: f"{tmp_path}"}).check(command("curate"))


def test_what_only_the_submitting_shell_can_give_is_asked_for_there(launcher, shell, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    made = launcher(secrets=("HF_TOKEN",))
    with pytest.raises(ConfigError, match="HF_TOKEN, which this shell does not set"):
        made.run(command("curate"))
    assert not shell.told("submitted")
    monkeypatch.setenv("HF_TOKEN", "x")
    assert made.run(command("curate")).number == "101"


def test_a_folder_of_jobs_that_cannot_be_is_named(launcher, tmp_path, shell):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "jobs", Path("/proc/jobs")):
        with pytest.raises(ConfigError, match=r"cluster\.job_dir is '.*', which cannot hold"):
            launcher(job_dir=str(folder)).run(command("curate"))
    assert not shell.told("submitted")


def test_a_secret_comes_from_the_shell_and_is_in_no_script(shell, launcher, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-key-of-mine")
    script = launcher(secrets=("WANDB_API_KEY", "HF_TOKEN")).script(command("curate"))
    assert "a-key-of-mine" not in script
    ended = shell.run(script)
    assert ended.returncode == 2 and "HF_TOKEN must be set" in ended.stderr
    assert shell.run(script, HF_TOKEN="another").returncode == 0


@pytest.mark.parametrize(
    ("code", "failures"), [*((code, 0) for code in sorted(THEN)), (137, 0), (137, 2), (75, 2)]
)
def test_a_job_goes_back_as_the_table_of_exit_codes_says(shell, launcher, tmp_path, code, failures):
    script = launcher().script(command("curate", retries=2))
    assert "requeue" in flags(script)
    (tmp_path / "logs" / f"{JOB_NUMBER}.failures").write_text("1\n" * failures)
    ended = shell.run(script, CODE=str(code))
    assert ended.returncode == code
    then = what_then(code)
    again = then is Then.CONTINUE or (then is not Then.NOTHING and not failures)
    assert shell.told("requeued") == (f"requeue {JOB_NUMBER}\n" if again else "")
    assert (f"Job {JOB_NUMBER} ended with exit code {code}" in ended.stderr) != again


def test_the_first_ranks_reason_counts_and_its_machines_are_left_out(shell, launcher):
    script = launcher(sbatch={"exclude": "n9"}).script(command("curate", nodes=2, retries=2))
    turns = [{"CODE": "137", "REASON": r"77\nn2\nn1\n"}, {"CODE": "1"}, {"CODE": "1"}]
    for turn in turns:  # what the first turn found is left out ever after
        ended = shell.run(script, TASKS="1", **turn)
    update = f"update JobId={JOB_NUMBER} ExcNodeList=n1,n2,n9\n"
    assert shell.told("requeued") == f"requeue {JOB_NUMBER}\n{update}" * 2
    assert f"Job {JOB_NUMBER} ended with exit code 1" in ended.stderr
    assert shell.run(script, TASKS="1", CODE="137", REASON=r"2\n").returncode == 2


def test_a_save_before_the_end_of_the_time_goes_on_in_another_turn(shell, launcher):
    script = launcher(time="04:00:00").script(command("pretrain", retries=1))
    assert {"signal=USR1@120", "requeue"} <= flags(script)
    shell.run(script, CODE="1")
    # A save, after which failures are counted again. The others are killed meanwhile.
    shell.run(script, CODE="137", REASON=r"75\n")
    shell.run(script, CODE="1")
    assert shell.told("requeued") == f"requeue {JOB_NUMBER}\n" * 3
    until_the_end = launcher(save_before_end_s=0, retries=0).script(command("pretrain"))
    assert not {flag.partition("=")[0] for flag in flags(until_the_end)} & {"signal", "requeue"}
    assert shell.run(until_the_end, CODE="75").returncode == 75
    assert shell.told("requeued") == f"requeue {JOB_NUMBER}\n" * 3


@pytest.mark.parametrize("code", ["130", "143"])
def test_a_preempted_job_goes_back_however_it_ends(shell, launcher, code):
    """Slurm sends SIGTERM, and takes a job that ends within its grace for failed."""
    script = launcher(retries=0).script(command("pretrain"))
    ended = shell.run(script, CODE=code, PREEMPTED="2026-01-01T00:00:09")
    assert ended.returncode == Exit.SAVED and shell.told("requeued") == f"requeue {JOB_NUMBER}\n"
    shell.run(script, CODE=code)
    assert shell.told("requeued") == f"requeue {JOB_NUMBER}\n"


@pytest.mark.parametrize(
    ("words", "resumes"),
    [
        (("tokenize", "shards", "latents"), True),
        (("evaluate", "a", "b", "--out", "c"), True),
        (("evaluate", "a", "b"), False),
        (("generate", "world"), False),
    ],
)
def test_only_what_resumes_is_told_that_its_time_ends(launcher, words, resumes):
    script = launcher().script(command(*words))
    assert ("signal=USR1@120" in flags(script)) == ('trap "" USR1' in script) == resumes


def test_a_process_ignores_the_signal_until_it_listens(shell, launcher):
    made = launcher(python="/bin/bash")
    script = made.script(command("curate")).replace(
        "-m nemo_cosmos", "-c 'kill -USR1 $$; exit 7' x"
    )
    assert shell.run(script).returncode == 7


@pytest.mark.parametrize(
    ("time", "signal_s"),
    [("10", 120), ("2", 60), ("1:30", 45), ("00:01:00", 30), ("1-0", 120), ("UNLIMITED", 120)],
)
def test_of_a_short_limit_half_is_left_to_save(time, signal_s):
    assert SlurmSettings(time=time).signal_s == signal_s


def test_fewer_machines_will_do(shell, launcher):
    script = launcher(min_nodes=2).script(command("curate", nodes=4, devices=2))
    assert "nodes=2-4" in flags(script)
    # Slurm would give as many machines as the tasks of the least number need.
    assert not any(flag.startswith("ntasks") for flag in flags(script))
    for there, taken in ((4, 4), (3, 3), (2, 2)):
        shell.run(script, TASKS="1", SLURM_JOB_NUM_NODES=str(there))
        wanted = {f"--nodes={taken}", f"--ntasks={2 * taken}", "--ntasks-per-node=2"}
        assert wanted <= set(shell.told("srun").splitlines()[-4:])


def test_a_job_that_could_never_start_is_taken_back(shell, launcher):
    (shell.records / "queue").write_text("101|PENDING||PartitionTimeLimit\n")
    with pytest.raises(ConfigError, match=r"PartitionTimeLimit.*cluster\.time"):
        launcher().run(command("curate"))
    assert shell.told("cancelled") == "101\n" and not read_records()


def test_a_job_has_the_kept_settings_but_launches_nothing_itself(shell, launcher):
    site.keep_choices(["cluster=slurm", "cluster.account=robotics", "storage.outputs=/my runs"])
    assert shell.run(launcher().script(command("curate"))).returncode == 0
    assert shell.told("site") == "storage.outputs=/my runs\n"
    site.site_file().unlink()
    assert shell.run(launcher().script(command("curate"))).returncode == 0
    assert shell.told("site") == ""


def test_setup_and_variables_come_before_the_command(shell, launcher):
    made = launcher(
        setup=("export CODE=7",),
        interface="bond0",
        ib_devices="mlx5_0,mlx5_3:2",
        env_vars={"A": "it's"},
    )
    script = made.script(command("curate"))
    assert shell.run(script).returncode == 7
    for line in (
        "export NCCL_SOCKET_IFNAME=bond0",
        "export GLOO_SOCKET_IFNAME=bond0",
        "export NCCL_IB_HCA=mlx5_0,mlx5_3:2",
        "export UCX_NET_DEVICES=mlx5_0:1,mlx5_3:2",
        "export A='it'\"'\"'s'",
    ):
        assert f"\n{line}\n" in script


def test_a_container_sees_the_working_folder_and_the_logs(shell, launcher, tmp_path):
    made = launcher(
        container_image="registry.example.com/nemo-cosmos:0.1",
        container_mounts=(f"{tmp_path}:/data",),
        python=None,
    )
    script = made.script(command("curate"))
    shell.run(script)
    mounts = f"{tmp_path}:/data,{tmp_path}:{tmp_path},{tmp_path}/logs:{tmp_path}/logs"
    assert shell.told("srun").splitlines()[-3:] == [
        "--container-image=registry.example.com/nemo-cosmos:0.1",
        f"--container-mounts={mounts}",
        f"--container-workdir={tmp_path}",
    ]
    assert "/opt/venv/bin/python -m nemo_cosmos" in script


@pytest.mark.parametrize(
    ("settings", "job", "message"),
    [
        ({"max_nodes": 4}, {"nodes": 5}, "at most 4"),
        ({"gpus_per_node": 4}, {"devices": 8}, "cluster.gpus_per_node"),
        ({"container_mounts": ("/data",)}, {}, "HOST_PATH:/CONTAINER_PATH"),
        ({"container_mounts": ("/no/such/folder:/data",)}, {}, "check_paths=false"),
        ({"container_image": "/no/such.sqsh"}, {}, "container_image is '/no/such.sqsh'"),
        (
            {"container_image": "registry/two words:1"},
            {},
            "'registry/two words:1', which names no image",
        ),
        ({"container_image": "nvcr.io#Nvidia/Nemo:1"}, {}, "names no image"),
        ({"python": "/no/such/python"}, {}, "cluster.python"),
        ({"env_vars": {"HF_TOKEN": "x"}}, {}, r"cluster.secrets=\[HF_TOKEN\]"),
        ({"env_vars": {"MY-NAME": "x"}}, {}, "'MY-NAME' is no name"),
        ({}, {"env": {"WANDB_API_KEY": "x"}}, "secret"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(launcher, settings, job, message):
    with pytest.raises(InputError, match=message):
        launcher(**settings).check(command("evaluate", **job))


@pytest.mark.parametrize("place", ["command", "variable", "kept"])
def test_a_password_of_a_url_is_in_no_script_and_no_message(launcher, place):
    url = "mongodb://me:hunter2@host/db"
    if place == "kept":
        site.keep_choices([f"storage.catalogue='{url}'"])
    made = launcher(env_vars={"CATALOGUE": url} if place == "variable" else {})
    with pytest.raises(ConfigError, match="holds a password") as refused:
        made.check(command("curate", "raw", "shards", *([url] if place == "command" else [])))
    assert "hunter2" not in str(refused.value)


def test_a_variable_that_only_sounds_like_a_secret_is_none(launcher):
    names = {"TOKENIZERS_PARALLELISM": "false", "NCCL_IB_PKEY": "0", "HF_HOME": "/hub"}
    launcher(env_vars=names).check(command("curate"))


def test_a_cluster_without_pyxis_runs_no_containers(shell, launcher):
    with pytest.raises(ConfigError, match="pyxis"):
        launcher(container_image="registry.example.com/nemo-cosmos:0.1").run(command("curate"))
    assert not shell.told("submitted")


def test_paths_of_other_machines_may_be_left_unchecked(launcher):
    made = launcher(check_paths=False, container_mounts=("/no/such/folder:/data",))
    made.check(command("evaluate"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partitoin": "gpu"}, "'partition'"),
        ({"time": 43200}, "quotation marks"),  # what YAML makes of 12:00:00
        ({"time": "4 hours"}, "HH:MM:SS"),
        ({"mem": 0}, "quotation marks"),
        ({"gpus_per_node": "eight"}, "whole number"),
        ({"gpus_per_node": -1}, "0 or more"),
        ({"exclusive": "yes"}, "True or False"),
        ({"container_mounts": "/a:/a"}, "must be a list"),
        ({"setup": ["module load cuda\nrm -r x"]}, "single line"),
        ({"env_vars": ["A=1"]}, "map names to values"),
        ({"env_vars": {"A": None}}, "cluster.env_vars.A"),
        ({"account": "a\n#SBATCH --mail-user=x"}, "single line"),
    ],
)
def test_a_slip_in_a_cluster_file_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        read_settings(SlurmSettings, values)


def test_a_cluster_file_may_leave_values_out():
    read = read_settings(
        SlurmSettings, {"env_vars": {"A": 1}, "secrets": None, "sbatch": None, "qos": None}
    )
    assert read == SlurmSettings(env_vars={"A": "1"})


def test_a_chain_waits_for_the_job_before(shell, launcher, tmp_path):
    cluster = {"executor": "slurm", "job_dir": str(tmp_path / "logs")}
    started = run_chain([command("curate"), command("tokenize"), command("evaluate")], cluster)
    assert [each.number for each in started] == ["101", "102", "103"]
    assert started[1].log == tmp_path / "logs" / "tokenize-102.log"
    lines = shell.told("submitted").splitlines()
    assert "--dependency" not in lines[0]
    for line, number in zip(lines[1:], ("101", "102"), strict=True):
        assert f"--dependency=afterok:{number} --kill-on-invalid-dep=yes" in line
    script = Path(lines[2].split()[-1])
    assert script.parent == tmp_path / "logs" and "nemo_cosmos evaluate" in script.read_text()


@pytest.mark.parametrize(
    ("said", "kind", "advice"),
    [
        ("Invalid account or account/partition combination specified", ConfigError, "sacctmgr"),
        ("Unable to process configuration file", ConfigError, "SLURM_CONF"),
        ("Invalid node name specified", ConfigError, "sinfo -N"),
        ("Invalid --begin specification", ConfigError, "man sbatch"),
        ("invalid partition specified: gpu", ConfigError, "sinfo -s"),
        ("Requested node configuration is not available", ConfigError, "--nodes"),
        ("Node count specification invalid", ConfigError, "--nodes"),
        ("Unable to contact slurm controller (connect failure)", ServiceError, "scontrol ping"),
    ],
)
def test_a_refusal_is_in_slurms_words_and_leaves_no_half_chain(
    shell, launcher, monkeypatch, tmp_path, said, kind, advice
):
    monkeypatch.setenv("REFUSED", "2")
    monkeypatch.setenv("SAID", said)
    cluster = {"executor": "slurm", "job_dir": str(tmp_path / "logs")}
    with pytest.raises(kind) as refused:
        run_chain([command("curate"), command("tokenize")], cluster)
    assert said in str(refused.value) and advice in str(refused.value)
    assert shell.told("cancelled") == "101\n"


def test_without_slurm_the_way_out_is_named(launcher, monkeypatch, tmp_path):
    made = launcher()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"login node.*--dryrun"):
        made.run(command("curate"))
