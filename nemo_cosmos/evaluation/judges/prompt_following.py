"""Does the video show what its prompt says? A vision-language model is asked."""

from __future__ import annotations

from nemo_cosmos.evaluation.judges.vision import Question
from nemo_cosmos.evaluation.metric import JudgeMetric

QUESTION = Question(
    metric="prompt_following",
    text="These are {num_frames} frames of one video, in order. It was generated from this text:\n"
    "<text>{prompt}</text>\n"
    "How well does the video show what the text says? Look at the objects, at what happens to them "
    "and at the order of events; do not judge the quality of the pictures. First write your reason "
    "in one or two sentences, then a score: 1 shows something else, 2 shows a part, 3 shows the "
    "objects but not what happens, 4 shows nearly everything, 5 shows everything. Answer with JSON "
    'alone: {{"reason": "...", "score": 1}}',
    lowest=1,
    highest=5,
)

PROMPT_FOLLOWING = JudgeMetric(
    name=QUESTION.metric,
    unit=f"of {QUESTION.highest}",
    higher_is_better=True,
    description="how well the video shows what its prompt says, by a vision-language model",
    describe_features=QUESTION.describe,
    judge=QUESTION.ask,
)
