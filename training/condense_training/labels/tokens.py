"""Which tokens of a detector's text are which prompt, and the class scores that follow.

A grounding detector scores every box against every token of one long text. Scores are read at the
tokens of each prompt. Decoding the tokens above a threshold back into words, as is often done,
merges neighbours ("car tree") and loses what is not a known name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.errors import ConfigError
from condense_training.labels.ontology import Prompt


@dataclass(frozen=True)
class PromptText:
    """The tokens of some prompts in one text.

    Attributes:
        input_ids: begin, tokens of a prompt, stop, ..., end.
        spans: (first, past the last) position of each prompt's tokens.
        class_ids: the class of each prompt.
        text: as a person would write it.
    """

    input_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    class_ids: tuple[int, ...]
    text: str


def prompt_texts(
    prompts: Sequence[Prompt],
    tokenize: Callable[[str], list[int]],
    *,
    begin: int,
    stop: int,
    end: int,
    most_tokens: int,
) -> list[PromptText]:
    """As few texts as hold all prompts, none longer than the model reads.

    Args:
        tokenize: a phrase to its token ids, without special ones.
        begin, stop, end: ids of the special tokens ([CLS], ".", [SEP]).
        most_tokens: of a text, special ones included.

    Raises:
        ConfigError: no prompts, or one that alone is too long.
    """
    if not prompts:
        raise ConfigError("the ontology has no prompts", "give its classes prompts")
    texts: list[PromptText] = []
    ids: list[int] = [begin]
    spans: list[tuple[int, int]] = []
    classes: list[int] = []
    words: list[str] = []

    def close() -> None:
        text = ". ".join(words) + "."
        texts.append(PromptText((*ids, end), tuple(spans), tuple(classes), text))

    for prompt in prompts:
        tokens = tokenize(prompt.text)
        if not tokens or len(tokens) + 3 > most_tokens:
            raise ConfigError(
                f"prompt {prompt.text!r} has {len(tokens)} tokens",
                f"use one to {most_tokens - 3} tokens",
            )
        if len(ids) + len(tokens) + 2 > most_tokens:
            close()
            ids, spans, classes, words = [begin], [], [], []
        spans.append((len(ids), len(ids) + len(tokens)))
        classes.append(prompt.class_id)
        words.append(prompt.text)
        ids += [*tokens, stop]
    close()
    return texts


def class_scores(
    token_scores: npt.NDArray[np.floating], text: PromptText
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Scores of boxes for classes: the best token of each prompt, the best prompt of each class.

    Args:
        token_scores: (Q, T) probabilities (sigmoid of the logits) of boxes and tokens.

    Returns:
        class_ids: (C,) the classes that the text asks for, ascending.
        scores: (Q, C) float32.
    """
    wanted = np.unique(np.array(text.class_ids, np.int64))
    scores = np.zeros((len(token_scores), len(wanted)), np.float32)
    for (first, last), class_id in zip(text.spans, text.class_ids, strict=True):
        column = int(np.searchsorted(wanted, class_id))
        best = token_scores[:, first:last].max(axis=1)
        scores[:, column] = np.maximum(scores[:, column], best)
    return wanted, scores


def choose(
    token_scores: npt.NDArray[np.floating],
    text: PromptText,
    *,
    box_threshold: float,
    text_threshold: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Boxes worth keeping, with their class.

    A box is kept where its best token, whichever that is, exceeds the box threshold (as Grounding
    DINO does) and its best class exceeds the text threshold.

    Returns:
        rows: (n,) kept boxes; class_ids: (n,); scores: (n,) of that class.
    """
    class_ids, scores = class_scores(token_scores, text)
    best = scores.argmax(axis=1)
    score = scores[np.arange(len(scores)), best]
    rows = np.nonzero((token_scores.max(axis=1) > box_threshold) & (score > text_threshold))[0]
    return rows, class_ids[best[rows]], score[rows]
