"""What a person can choose about decoding with an autoregressive model; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.options import option

DECODING_NAMES = ("auto", "plain", "jacobi", "coupled", "medusa")
ACCEPTANCE_NAMES = ("exact", "typical")
DRAFT_NAMES = ("frame", "row", "last", "random", "heads")

USUAL_HEADS, MOST_HEADS = 9, 12
"""Codes ahead of the next one that heads guess."""


@dataclass(frozen=True)
class AROptions:
    """Choices about the decoding.

    Attributes:
        temperature: how freely codes are drawn; 0 takes the likeliest.
        top_k: draw from so many of the likeliest codes; 0 from all.
        top_p: draw from the likeliest codes that together have this probability; by default as the
            model was published.
        guidance: how strongly to follow the prompt, for models with text; 0 is without guidance
            and twice as fast.
        decoding: ``plain`` draws one code after the other, ``jacobi`` a window at once, with the
            same result in float32, and ``coupled`` a window at once, with another result of the
            same probability; ``medusa`` draws a tree of guesses by the world's heads, with the same
            result in float32; ``auto`` is ``jacobi`` with the window, or none, that is fastest
            here, measured in the first passes.
        window: codes that are drawn at once, for ``medusa`` the nodes of the tree; by default as
            many as suit the machine, which ``medusa`` and ``auto`` measure.
        acceptance: with ``exact`` a guess counts where it is what is drawn. ``typical``, which
            ``medusa`` takes, accepts any guess that is likely enough: fewer passes, but another
            distribution than the model's.
        drafts: what is guessed first: the same place in the frame before (``frame``), the
            place above (``row``), the place before (``last``), or anything (``random``). With
            ``heads``, which ``jacobi`` takes, the world's heads guess the next places anew after
            every pass, and the frame before the others.
    """

    temperature: float = option(
        1.0, "How freely codes are drawn; 0 takes the likeliest.", least=0, most=100
    )
    top_k: int = option(0, "Draw from so many of the likeliest; 0 from all.", least=0, most=10**6)
    top_p: float | None = option(
        None, "Draw from the likeliest that make up this share.", above=0, most=1
    )
    guidance: float = option(
        0.0, "How strongly to follow the prompt; 0 is faster.", least=0, most=1000
    )
    decoding: str = option(
        "auto",
        "plain, jacobi or medusa (same result, fewer passes), coupled (as likely), or auto.",
        choices=DECODING_NAMES,
    )
    window: int | None = option(
        None, "Codes that are drawn at once, but for plain.", least=1, most=10**6
    )
    acceptance: str = option(
        "exact",
        "typical takes likely guesses, which CHANGES THE DISTRIBUTION; for medusa.",
        choices=ACCEPTANCE_NAMES,
    )
    drafts: str = option("frame", "What is guessed first.", choices=DRAFT_NAMES)
