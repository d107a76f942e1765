"""What was found on the machines of a job, as verdicts on one page."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from nemo_cosmos.errors import counted

#: A collective that moves fewer gigabytes a second is slow. NVLink gives a GPU some hundreds and
#: PCIe 10 to 25; one InfiniBand port of 400 Gb/s 45, and Ethernet of 10 Gb/s 1.
LEAST_WITHIN_GB_S, LEAST_ACROSS_GB_S = 30.0, 5.0
#: Of the CPUs of one machine, or several, through gloo.
LEAST_CPU_GB_S = 0.01
#: A rank that computes less than this share of what the middle one does is slow.
LEAST_SHARE = 0.75
#: Reading that takes more of a step holds the training back.
MOST_READING = 0.5


class Word(StrEnum):
    """The verdicts."""

    FINE = "fine"
    SLOW = "slow"
    WRONG = "wrong"


@dataclass(frozen=True)
class Verdict:
    """What was found of one thing.

    Attributes:
        name: the thing.
        word: the verdict.
        text: the finding; of what is slow or wrong, with what helps.
    """

    name: str
    word: Word
    text: str


@dataclass(frozen=True)
class RankFacts:
    """What one rank found of its machine before it met the others.

    Attributes:
        rank: its number.
        host: its machine.
        device: its GPU, or ``"CPU"``.
        versions: driver and libraries, by name.
        faults: findings that do not work, with their remedies.
        wrong: kernels that compute wrong numbers.
        num_kernels: kernels that were tried.
        tflop_per_s: the speed of a matrix product.
    """

    rank: int
    host: str
    device: str
    versions: dict[str, str]
    faults: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    num_kernels: int = 0
    tflop_per_s: float = 0.0


@dataclass
class Findings:
    """What all ranks found together.

    Attributes:
        ranks: facts of each.
        wrong_exchange: collectives that gave wrong numbers.
        within_gb_s: bandwidth of a sum over the ranks of one machine; None where it has one rank.
        across_gb_s: bandwidth of a sum over all ranks of several machines.
        latency_us: time of a sum of a single number over all ranks.
        steps_s: the time of each step.
        reading_s: the middle time that each rank waits for a batch.
        losses: the loss of each step.
        error: why the steps could not be taken.
    """

    ranks: list[RankFacts] = field(default_factory=list)
    wrong_exchange: list[str] = field(default_factory=list)
    within_gb_s: float | None = None
    across_gb_s: float | None = None
    latency_us: float | None = None
    steps_s: list[float] = field(default_factory=list)
    reading_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    error: str = ""


def judge(found: Findings, num_steps: int) -> list[Verdict]:
    """Return the verdicts, in the order in which they should be mended.

    Args:
        found: what the ranks found.
        num_steps: how many steps they were to take.
    """
    verdicts = [_machines(found.ranks), _software(found.ranks), _numbers(found)]
    verdicts += [_speed(found.ranks), *_exchange(found), _steps(found, num_steps)]
    return verdicts


def page(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as text: a line each, and a last line that sums up."""
    width = max(len(verdict.name) for verdict in verdicts)
    lines = [f"{each.word:5}  {each.name:{width}}  {each.text}" for each in verdicts]
    bad = [each.name for each in verdicts if each.word is not Word.FINE]
    said = f"{len(bad)} of {len(verdicts)} need attention: {', '.join(bad)}."
    return "\n".join([*lines, said if bad else "Nothing is slow or wrong."])


def _machines(ranks: Sequence[RankFacts]) -> Verdict:
    hosts = Counter(rank.host for rank in ranks)
    devices = Counter(rank.device for rank in ranks)
    text = f"{counted(len(hosts), 'machine')}, {counted(len(ranks), 'rank')} on " + ", ".join(
        f"{number} x {device}" for device, number in devices.items()
    )
    faults = dict.fromkeys(fault for rank in ranks for fault in rank.faults)
    if faults:
        where = {rank.host for rank in ranks if rank.faults}
        named = f"on {', '.join(sorted(where))}: " if len(hosts) > 1 else ""
        return Verdict("machines", Word.WRONG, f"{text}. {named}{' '.join(faults)}")
    if len(devices) > 1 or len(set(hosts.values())) > 1:
        each = ", ".join(f"{host} {number}" for host, number in sorted(hosts.items()))
        return Verdict(
            "machines",
            Word.WRONG,
            f"{text}. Machines differ (ranks of each: {each}), and all wait for the slowest. "
            "Choose machines of one kind, such as by cluster.constraint or node_selector.",
        )
    return Verdict("machines", Word.FINE, text)


def _software(ranks: Sequence[RankFacts]) -> Verdict:
    names = list(dict.fromkeys(name for rank in ranks for name in rank.versions))
    differences = []
    for name in names:
        versions = Counter(rank.versions.get(name, "none") for rank in ranks)
        if len(versions) > 1:
            usual = versions.most_common(1)[0][0]
            odd = {
                f"{rank.host} has {rank.versions.get(name, 'none')}"
                for rank in ranks
                if rank.versions.get(name, "none") != usual
            }
            differences.append(f"{name} is {usual}, but {', '.join(sorted(odd))}")
    if differences:
        return Verdict(
            "software",
            Word.WRONG,
            f"{'; '.join(differences)}. Give all machines the same image and driver.",
        )
    said = ", ".join(f"{name} {version}" for name, version in ranks[0].versions.items())
    return Verdict("software", Word.FINE, said)


def _numbers(found: Findings) -> Verdict:
    bad = [f"{rank.host} (rank {rank.rank}): {'; '.join(rank.wrong)}" for rank in found.ranks
           if rank.wrong]  # fmt: skip
    bad += found.wrong_exchange
    if bad:
        return Verdict(
            "numbers",
            Word.WRONG,
            f"{'. '.join(bad)}. Leave these machines out, or check their driver, the versions of "
            "CUDA and torch, and the hardware.",
        )
    return Verdict(
        "numbers", Word.FINE, f"{counted(found.ranks[0].num_kernels, 'kernel')} right on each rank"
    )


def _speed(ranks: Sequence[RankFacts]) -> Verdict:
    # Of two ranks the faster one is the measure: their mean would hide the slower.
    middle = statistics.median_high(rank.tflop_per_s for rank in ranks)
    slow = [rank for rank in ranks if rank.tflop_per_s < LEAST_SHARE * middle]
    text = f"a matrix product runs at {middle:.3g} TFLOP/s"
    if not slow:
        return Verdict("speed", Word.FINE, text)
    named = ", ".join(f"{rank.host} (rank {rank.rank}) {rank.tflop_per_s:.3g}" for rank in slow)
    return Verdict(
        "speed",
        Word.SLOW,
        f"{text}, but on {named}. Look for other processes there, for heat and for a limit of "
        "power ('nvidia-smi -q -d PERFORMANCE').",
    )


def _exchange(found: Findings) -> list[Verdict]:
    on_cpu = all(rank.device == "CPU" for rank in found.ranks)
    verdicts = []
    for name, speed, least, advice in (
        (
            "exchange within a machine",
            found.within_gb_s,
            LEAST_WITHIN_GB_S,
            "That is PCIe or less: look at NVLink ('nvidia-smi topo -m', 'nvidia-smi nvlink -s') "
            "and for NCCL_P2P_DISABLE; keep tensor parallelism small.",
        ),
        (
            "exchange across machines",
            found.across_gb_s,
            LEAST_ACROSS_GB_S,
            "That is Ethernet rather than InfiniBand: set cluster.ib_devices ('ibstat' lists "
            "them) and cluster.interface, and see in the log of NCCL_DEBUG=INFO what it uses.",
        ),
    ):
        if speed is None:
            continue
        is_slow = speed < (LEAST_CPU_GB_S if on_cpu else least)
        text = f"a sum moves {speed:.3g} GB/s a rank"
        if is_slow:
            text += ". Other processes take the cores or the network." if on_cpu else f". {advice}"
        verdicts.append(Verdict(name, Word.SLOW if is_slow else Word.FINE, text))
    if found.latency_us is not None and verdicts:
        last = verdicts[-1]
        text = last.text.replace(
            " a rank", f" a rank, one number takes {found.latency_us:.3g} us", 1
        )
        verdicts[-1] = Verdict(last.name, last.word, text)
    return verdicts


def _steps(found: Findings, num_steps: int) -> Verdict:
    name = f"{num_steps} steps"
    if found.error or len(found.steps_s) < num_steps:
        why = found.error or f"only {len(found.steps_s)} steps were taken"
        return Verdict(name, Word.WRONG, f"the nano recipe does not train: {why}")
    if any(loss != loss or abs(loss) == float("inf") for loss in found.losses):
        return Verdict(name, Word.WRONG, f"the nano recipe's loss is not finite: {found.losses}")
    usual_s = statistics.median(found.steps_s[len(found.steps_s) // 2 :])
    text = f"the nano recipe takes {usual_s:.3g} s a step, the first {found.steps_s[0]:.3g} s"
    slowest_s = max(found.reading_s, default=0.0)
    if slowest_s > MOST_READING * usual_s:
        rank = found.ranks[found.reading_s.index(slowest_s)]
        return Verdict(
            name,
            Word.SLOW,
            f"{text}, and {rank.host} (rank {rank.rank}) waits {slowest_s:.3g} s of it for data: "
            "look at the file system of storage.outputs, and at the cores that a rank has.",
        )
    return Verdict(name, Word.FINE, text)
