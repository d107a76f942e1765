"""Every error that nemo_cosmos raises on purpose.

::

    NemoCosmosError
    ├── InputError (ValueError)        something a person gave us is wrong
    │   ├── MissingFileError           a file, folder or URL is not there or cannot be read
    │   ├── VideoError                 a video cannot be decoded, encoded or is not a video
    │   ├── WrongFrameCountError       a number of frames that the tokenizer cannot take
    │   ├── WrongSizeError             a height or width that the model cannot take
    │   ├── SampleError                a shard or one of its samples is incomplete or corrupt
    │   ├── PromptError                an empty or over-long prompt
    │   └── ConfigError                an unknown recipe, key or value
    ├── NumericsError                  NaN or infinity where there must be none
    ├── CheckpointError                a checkpoint is missing, incomplete or of another model
    │   └── DamagedCheckpointError     its files are incomplete, or not as they were written
    ├── GuardrailError                 a guard refused, or could not be asked (which is a refusal)
    ├── RequirementError               a score does not have the value that someone requires
    ├── ServiceError                   a server that was asked gave no answer, however often
    ├── Cancelled                      someone asked for the work to stop
    ├── Preempted                      the machines were asked for; all work is saved
    ├── MachineError                   a machine computes wrong numbers
    ├── JobFailedError                 a job that was launched elsewhere ended with an error
    ├── StorageFullError (OSError)     no space left; what was written before is intact
    ├── MissingDependencyError (ImportError)   an optional package is not installed
    └── AssetError                     a file that a pinned package carries is unavailable

Each message is one paragraph: what was wrong, what was expected, and what to do. The command line
prints the message alone; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NemoCosmosError(Exception):
    """Base of every error that nemo_cosmos raises on purpose."""


class InputError(NemoCosmosError, ValueError):
    """Something that a person gave us is wrong."""


class MissingFileError(InputError):
    """A file, folder or URL is not there or cannot be read."""


class VideoError(InputError):
    """A video cannot be decoded or encoded, or is not a video."""


class WrongFrameCountError(InputError):
    """A number of frames that the tokenizer cannot take; names the nearest legal ones."""


class WrongSizeError(InputError):
    """A height or width that the model cannot take; names the nearest legal ones."""


class SampleError(InputError):
    """A shard or one of its samples is incomplete or corrupt."""


class PromptError(InputError):
    """An empty prompt, or one that is longer than the text encoder takes."""


class ConfigError(InputError):
    """An unknown recipe, key or value; names the nearest valid ones."""


class NumericsError(NemoCosmosError):
    """NaN or infinity where there must be none."""


class CheckpointError(NemoCosmosError):
    """A checkpoint is missing, incomplete, damaged or of another model."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's files are incomplete, or not as they were written."""


class GuardrailError(NemoCosmosError):
    """A guard refused, or could not be asked, which counts as a refusal.

    Attributes:
        violations: guard and category of each refusal, where verdicts were given.
    """

    def __init__(self, message: str, violations: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class RequirementError(NemoCosmosError):
    """A score does not have the value that someone requires of it."""


class ServiceError(NemoCosmosError):
    """A server that was asked gave no answer in all tries; it may be there again later."""


class Cancelled(NemoCosmosError):  # noqa: N818  what happened, not what went wrong
    """Someone asked for the work to stop; what was written before is intact."""


class Preempted(NemoCosmosError):  # noqa: N818  what happened, not what went wrong
    """The time limit or the queue asked for the machines; the same command continues the work."""


class MachineError(NemoCosmosError):
    """Machines compute wrong numbers; nothing has been trained on them.

    Attributes:
        hosts: their names.
    """

    def __init__(self, message: str, hosts: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.hosts = tuple(hosts)


class JobFailedError(NemoCosmosError):
    """A job that was launched in other processes ended with an error; its log says why."""


class StorageFullError(NemoCosmosError, OSError):
    """No space left on the device; what was written before is intact."""


class MissingDependencyError(NemoCosmosError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class AssetError(NemoCosmosError):
    """A file that a pinned package carries cannot be downloaded or has another checksum."""


def nearest_names(name: str, valid: Iterable[str], limit: int = 5) -> str:
    """Return the valid names closest to ``name``, quoted and comma-separated, for a message.

    No more than ``limit`` valid names are all listed, the closest first.
    """
    candidates = sorted(valid)
    close = difflib.get_close_matches(str(name), candidates, n=limit, cutoff=0.4)
    if not close or len(candidates) <= limit:
        close = [*close, *(one for one in candidates if one not in close)][:limit]
    return ", ".join(f"'{candidate}'" for candidate in close)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things in words: ``1 shard``, ``2 shards``.

    Args:
        number: how many.
        noun: what one of them is.
        plural: what several are; by default the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
