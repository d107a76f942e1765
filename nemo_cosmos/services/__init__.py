"""Clients of servers that others run: guards, captions and judges ask models through them."""

from nemo_cosmos.services.answers import answer_words, description_words, is_refusal
from nemo_cosmos.services.messages import Message, image_part, text_part, user_message
from nemo_cosmos.services.openai import (
    Answer,
    AnswerCutError,
    Endpoint,
    NoAnswerError,
    OpenAIClient,
    run_blocking,
)

__all__ = [
    "Answer",
    "AnswerCutError",
    "Endpoint",
    "Message",
    "NoAnswerError",
    "OpenAIClient",
    "answer_words",
    "description_words",
    "image_part",
    "is_refusal",
    "run_blocking",
    "text_part",
    "user_message",
]
