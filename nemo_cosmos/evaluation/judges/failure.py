"""Has the video failed in a way that takes eyes to see? A vision-language model is asked.

The Cosmos paper counted failures of its autoregressive models by hand: things that appear from
below, or elsewhere, without a reason. What needs no eyes is in
:mod:`nemo_cosmos.evaluation.single.failure`.
"""

from __future__ import annotations

from nemo_cosmos.evaluation.judges.vision import Question
from nemo_cosmos.evaluation.metric import JudgeMetric

QUESTION = Question(
    metric="failure_judged",
    text="These are {num_frames} frames of one generated video, in order. Has it failed? It has if "
    "an object appears that nothing brings, most often from the lower edge of the picture; if an "
    "object vanishes that nothing hides; if the scene turns into another one; or if the picture "
    "falls apart into blocks, noise or one colour. It has not if the camera or an object moves and "
    "shows what was hidden before, or if the picture is only blurred. First write your reason in "
    "one or two sentences and name the frame, then a score: 1 if it has failed, 0 if not. Answer "
    'with JSON alone: {{"reason": "...", "score": 0}}',
    lowest=0,
    highest=1,
    num_frames=12,
)

FAILURE_JUDGED = JudgeMetric(
    name=QUESTION.metric,
    higher_is_better=False,
    description="share of videos in which things appear, vanish or fall apart without a reason, by "
    "a vision-language model",
    needs=frozenset(),
    describe_features=QUESTION.describe,
    judge=QUESTION.ask,
)
