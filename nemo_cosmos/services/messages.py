"""The parts of a chat message, typed as OpenAI's API takes them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Literal, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 90


class TextPart(TypedDict):
    """Words within a message."""

    type: Literal["text"]
    text: str


class ImageUrl(TypedDict):
    """The address of a picture, here always a data URL."""

    url: str


class ImagePart(TypedDict):
    """A picture within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = TextPart | ImagePart


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]


def text_part(text: str) -> TextPart:
    """Words as a part of a message."""
    return {"type": "text", "text": text}


def image_part(frame_HWC: NDArray[np.uint8]) -> ImagePart:
    """A uint8 RGB frame as a JPEG within the message."""
    bgr = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    options: Sequence[int] = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    jpeg = cv2.imencode(".jpg", bgr, options)[1].tobytes()
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def user_message(question: str, frames_THWC: NDArray[np.uint8] | None = None) -> Message:
    """A question, with the frames that it is about before it, in order.

    Args:
        question: the words.
        frames_THWC: uint8 RGB frames; without them the content is the bare question.
    """
    if frames_THWC is None:
        return {"role": "user", "content": question}
    return {
        "role": "user",
        "content": [*(image_part(frame) for frame in frames_THWC), text_part(question)],
    }
