"""Probabilities with which training drops conditions. Needs no framework, so that a recipe is read and checked at once."""

from __future__ import annotations

from typing import Annotated

from fantasytalking.system.records import field, record

__all__ = ["Dropout"]


@record
class Dropout:
    """Probability of dropping each condition, independently of the others (paper: 0.1 each).

    Attributes:
        reference: Probability of dropping the portrait, and the identity with it.
        audio: Probability of dropping the speech.
        text: Probability of dropping the prompt.
    """

    reference: Annotated[float, field("Probability of dropping the reference image.", minimum=0, maximum=1)] = 0.1
    audio: Annotated[float, field("Probability of dropping the speech.", minimum=0, maximum=1)] = 0.1
    text: Annotated[float, field("Probability of dropping the prompt.", minimum=0, maximum=1)] = 0.1
