"""What a stage promises, and what decides its results.

A stage takes a clip and returns it with more known about it, or rejects it with a reason. It
declares which fields of a clip it reads and sets, which frames it looks at, and what resources it
needs; the run and its executor do the rest. A stage is idempotent: the same clip gives the same
result, so that an interrupted run resumes.

There are three kinds. A :class:`ClipStage` looks at one clip alone, a :class:`BatchStage` at some
clips of one source, a :class:`DatasetStage` at all clips of the run, after all sources are done.

A stage is one file with its settings, whose fields are options of the command line::

    @dataclass(frozen=True)
    class SharpnessSettings(StageSettings):
        after = "visual_quality"
        min_sharpness: float = option(0.1, "Least sharpness; 0: any.", least=0, most=1)

        def build(self, store: ClipStore) -> Stage:
            return SharpnessStage(self, store)


    class SharpnessStage(ClipStage):
        name = "sharpness"
        inputs = ("suffixes",)
        outputs = ("scores",)

        def process(self, clip: Clip) -> Result: ...

The product's own stages are fields of :class:`data_curation.settings.CurateSettings`. A package
adds one by an entry point of the group ``nemo_cosmos.stages``, whose name is the stage's and whose
object is the settings class; ``after`` says where it stands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import Numbers
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import check_fields

if TYPE_CHECKING:
    from data_curation.store import ClipStore

#: What a batch stage keeps of a clip that it has looked at.
Look = TypeVar("Look")


def ignore_progress() -> None:
    """The default of :meth:`DatasetStage.process_all`'s callback."""


class Stage(ABC):
    """One step of the road from raw video to shards; subclass one of the three kinds below.

    It is built where the run starts and sent to its workers by pickle: open models and connections
    when they are first needed, not in the constructor.

    Attributes:
        name: short name for counts, metrics and reports.
        inputs: fields of :class:`Clip` that must be set before.
        outputs: fields that the stage sets.
        resources: resources that one worker occupies.
        version: counts up when the stage makes something else of the same clip and settings, so
            that results of an earlier version are not used.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()
    resources: Resources = Resources()
    version: ClassVar[int] = 1

    def looks_at(self, clip: Clip) -> Sequence[int] | Numbers:
        """Numbers of the frames that the stage will read of a finished clip; none by default.

        Frames are read through :meth:`data_curation.store.ClipStore.open`. Those that are announced
        here are decoded once for all stages; others can be read as well, but are decoded again.
        """
        return ()

    def prepare(self) -> None:  # noqa: B027  most stages need nothing
        """Load what the stage needs (weights, a server's answer), before the first clip.

        Raises:
            NemoCosmosError: it is unavailable; the run ends before any work is done.
        """


class ClipStage(Stage):
    """Looks at one clip alone; clips may be worked on anywhere, in any order."""

    @abstractmethod
    def process(self, clip: Clip) -> Result | list[Result]:
        """Return the clip with more known about it, or a rejection; a list only when it splits.

        Raises:
            InputError: the clip is at fault; it is counted as rejected with the error as reason.
        """


class BatchStage(Stage, Generic[Look]):
    """Looks at clips one by one, and works on what it saw of some of them at once.

    A batch never mixes sources, so that the results do not depend on which of them happen to be
    worked on together.

    Attributes:
        batch_size: most clips in one call.
    """

    batch_size: int = 16

    @abstractmethod
    def look(self, clip: Clip) -> Look | Rejection:
        """Return what the batch needs of one clip, such as a few small frames, or a rejection.

        Raises:
            InputError: the clip is at fault; it is counted as rejected with the error as reason.
        """

    @abstractmethod
    def process_batch(self, clips: Sequence[Clip], looks: Sequence[Look]) -> list[Result]:
        """Return one result for each clip, in their order.

        When it raises, the clips are tried one by one, so that a bad one costs no other.
        """


class DatasetStage(Stage):
    """Sees all clips of the run, in order of source and span."""

    @abstractmethod
    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = ignore_progress
    ) -> list[Result]:
        """Return one result for each clip, in their order.

        Args:
            clips: all clips.
            advance: callback after each clip, where the stage finishes them one by one.
        """


class StageSettings(ABC):
    """Everything that decides what one stage makes; subclasses are frozen dataclasses.

    Attributes:
        optional: whether a run may leave the stage out (``CurateSettings.skip``).
        after: name of the stage that a stage of another package follows.

    Raises:
        ConfigError: a field has a value outside its range.
    """

    optional: ClassVar[bool] = False
    after: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the range of every field; a subclass that overrides this calls it first."""
        check_fields(self)

    @abstractmethod
    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings; ``store`` holds the files of clips."""


def check_order(stages: Sequence[Stage]) -> None:
    """Refuse an order of stages that cannot work.

    Raises:
        ConfigError: a stage reads a field that no stage before it sets, or follows a stage that
            sees all clips at once without being one itself.
    """
    known = {"source", "name"}
    dataset = ""
    for stage in stages:
        missing = [name for name in stage.inputs if name not in known]
        if missing:
            raise ConfigError(
                f"The stage '{stage.name}' reads '{missing[0]}', which no stage before it sets "
                f"(known are: {', '.join(sorted(known))}). Put the stage that sets it before."
            )
        if dataset and not isinstance(stage, DatasetStage):
            raise ConfigError(
                f"The stage '{stage.name}' works on single clips or sources but stands after "
                f"'{dataset}', which sees all clips at once. Put it before '{dataset}', or derive "
                "it from DatasetStage."
            )
        dataset = dataset or (stage.name if isinstance(stage, DatasetStage) else "")
        known |= set(stage.outputs)
