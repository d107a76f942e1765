"""What models wrap around their answers comes off; refusals are told from captions."""

from __future__ import annotations

import pytest

from nemo_cosmos.services import answer_words, description_words, is_refusal


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("  A robot waves.\n", "A robot waves."),
        ("<think>Is it {a robot}?\nYes.</think>\n\nA robot waves.", "A robot waves."),
        ("It seems to be a robot.</think>A robot waves.", "A robot waves."),
        ("<thinking>one</thinking> <think>two</think> A robot waves.", "A robot waves."),
        ("<think>It never ends", ""),
        ("```text\nA robot waves.\n```", "A robot waves."),
        ("```\nA robot\nwaves.\n```\n", "A robot\nwaves."),
        ("<|im_start|>A robot waves.<|im_end|><|endoftext|>", "A robot waves."),
        ("<s>A robot waves.</s>", "A robot waves."),
        ("```A robot waves.```", "A robot waves."),
        ("[THINK]Is it?[/THINK]A robot waves.", "A robot waves."),
        ("A robot waves.<\uff5cend\u2581of\u2581sentence\uff5c>", "A robot waves."),
        ("<start_of_turn>model\nA robot waves.<end_of_turn>", "A robot waves."),
        ("<|im_start|>assistant\nA robot waves.<|im_end|>", "A robot waves."),
        ("[INST] [/INST] A robot waves.<eos>", "A robot waves."),
        (
            "<|channel|>analysis<|message|>A robot?<|end|><|start|>assistant<|channel|>final"
            "<|message|>A robot waves.<|return|>",
            "A robot waves.",
        ),
        ("<|channel|>analysis<|message|>It never ends", ""),
        ("A sign reads x < y | z > w.", "A sign reads x < y | z > w."),
    ],
)
def test_only_the_answer_is_left(text, answer):
    assert answer_words(text) == answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Sure! Here is the caption:\n\nA robot waves.", "A robot waves."),
        ("Here's a detailed description of the video: A robot waves.", "A robot waves."),
        ("**Caption:** A robot waves.", "A robot waves."),
        ("<answer>A robot waves.</answer>", "A robot waves."),
        ('"A robot waves."', "A robot waves."),
        ('```json\n{"caption": "A robot waves."}\n```', "A robot waves."),
        ("Here is a street: cars pass.", "Here is a street: cars pass."),
        ('"Stop" says a sign, "go" another.', '"Stop" says a sign, "go" another.'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_only_the_description_is_left(text, words):
    assert description_words(text) == words


@pytest.mark.parametrize(
    "words",
    [
        "Unfortunately, I cannot describe this.",
        "I can't see the images you sent.",
        "I don't have access to videos.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Lo siento, no puedo ayudar.",
        "I can't assist with that request.",
        "I can\u2019t help with identifying people.",
        "I'm sorry, but I cannot describe this video.",
        "I am unable to view the frames.",
        "Sorry, I won't do that.",
        "I cannot provide a description of these images.",
        "As an AI language model, I have no access to videos.",
        "\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63cf\u8ff0\u8fd9\u6bb5\u89c6\u9891\u3002",
    ],
)
def test_refusals(words):
    assert is_refusal(words)


@pytest.mark.parametrize(
    "words",
    [
        "A robot arm cannot reach the block and stops.",
        "The person apologizes to a neighbour; a sign says 'Sorry, closed'.",
        "In this video I see a street in the rain.",
        "I can see a red car that turns left.",
        "I can't see the handle, but the arm lifts a pot.",
        "Unfortunately for the driver, the road is closed.",
        "The request desk of a hotel, seen from the door.",
        "As an aircraft lands, smoke rises from its wheels.",
        "",
    ],
)
def test_captions_are_no_refusals(words):
    assert not is_refusal(words)
