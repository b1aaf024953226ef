"""From boxes and token scores to a label image, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condense_ros.errors import ConfigError, LabelError
from condense_training.labels.boxes import box_iou, clip, suppress
from condense_training.labels.fusion import fuse
from condense_training.labels.ontology import Prompt
from condense_training.labels.protocols import Detections, LabelImage
from condense_training.labels.tokens import choose, class_scores, prompt_texts

THINGS = np.array([True, True, False, False])  # car, sign, road, building


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((4, 6), bool)
    mask[top:bottom, left:right] = True
    return mask


def found(boxes: list, scores: list, classes: list) -> Detections:
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes))


def test_things_over_stuff_and_the_surest_on_top() -> None:
    masks = np.array(
        [
            rectangle(0, 0, 4, 3),  # car, 0.5
            rectangle(0, 0, 2, 6),  # building, 0.9
            rectangle(1, 0, 4, 6),  # road, 0.8
            rectangle(1, 1, 3, 2),  # sign, 0.6
        ]
    )
    made = fuse(masks, np.array([0.5, 0.9, 0.8, 0.6]), np.array([0, 3, 2, 1]), THINGS)
    expected = [
        [0, 0, 0, 3, 3, 3],
        [0, 1, 0, 3, 3, 3],
        [0, 1, 0, 2, 2, 2],
        [0, 0, 0, 2, 2, 2],
    ]
    assert made.labels.tolist() == expected
    score = {0: 0.5, 1: 0.6, 2: 0.8, 3: 0.9}
    np.testing.assert_allclose(made.confidence, np.vectorize(score.get)(made.labels), rtol=1e-6)


def test_pixels_without_a_mask_have_no_class() -> None:
    made = fuse(rectangle(1, 1, 2, 3)[None], np.array([0.7]), np.array([2]), THINGS)
    assert (made.labels == 255).sum() == 22
    assert made.confidence[made.labels == 255].max() == 0
    nothing = fuse(np.zeros((0, 4, 6), bool), np.zeros(0), np.zeros(0, int), THINGS)
    assert (nothing.labels == 255).all()


def test_of_equal_scores_the_smaller_wins_then_the_earlier() -> None:
    masks = np.array([rectangle(1, 1, 2, 3), rectangle(0, 0, 4, 6), rectangle(1, 2, 2, 4)])
    made = fuse(masks, np.array([0.5, 0.5, 0.5]), np.array([0, 1, 1]), THINGS)
    assert made.labels[1].tolist() == [1, 0, 0, 1, 1, 1]


def test_small_masks_are_left_out_and_counted() -> None:
    masks = np.array([rectangle(0, 0, 1, 1), rectangle(0, 0, 1, 2), rectangle(0, 0, 0, 0)])
    scores, classes = np.array([0.9, 0.5, 0.9]), np.array([0, 1, 0])
    made = fuse(masks, scores, classes, THINGS, min_area_px=2)
    assert made.labels[0, :3].tolist() == [1, 1, 255]
    assert made.details == {"masks": 1, "small": 2}


@given(st.data())
def test_every_pixel_is_that_of_a_search_over_all_masks(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(0, 6))
    masks = rng.random((count, 4, 6)) < 0.5
    scores = rng.choice([0.25, 0.5, 0.75], count)
    classes = rng.integers(0, 4, count)
    made = fuse(masks, scores, classes, THINGS)
    for y, x in np.ndindex(4, 6):
        covering = [
            (THINGS[classes[i]], scores[i], -masks[i].sum(), -i)
            for i in range(count)
            if masks[i, y, x]
        ]
        if covering:
            assert made.labels[y, x] == classes[-max(covering)[3]]
            assert made.confidence[y, x] == np.float32(max(covering)[1])
        else:
            assert made.labels[y, x] == 255
    # the order of detections does not matter, except between exact equals
    if len(set(scores)) == count:
        back = fuse(masks[::-1], scores[::-1], classes[::-1], THINGS)
        np.testing.assert_array_equal(back.labels, made.labels)


def test_what_fusion_refuses() -> None:
    mask = rectangle(0, 0, 1, 1)[None]
    with pytest.raises(LabelError, match="4 classes"):
        fuse(mask, np.array([0.5]), np.array([4]), THINGS)
    with pytest.raises(LabelError, match="2 scores"):
        fuse(mask, np.array([0.5, 0.6]), np.array([0]), THINGS)


def test_box_overlap_by_hand() -> None:
    boxes = np.array([[0, 0, 4, 2], [2, 0, 6, 2], [0, 0, 4, 4], [9, 9, 9, 9]], float)
    expected = [[1, 1 / 3, 1 / 2, 0], [1 / 3, 1, 1 / 5, 0], [1 / 2, 1 / 5, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected)


def test_suppression_within_a_class_only() -> None:
    boxes = [[0, 0, 4, 2], [0, 0, 4, 3], [0, 0, 4, 2], [20, 0, 24, 2]]
    kept = suppress(found(boxes, [0.5, 0.9, 0.4, 0.3], [0, 0, 1, 0]), 0.5)
    # the first overlaps the second by 2/3; the third is of another class
    assert kept.scores.tolist() == pytest.approx([0.9, 0.4, 0.3])
    assert len(suppress(found(boxes, [0.5, 0.9, 0.4, 0.3], [0, 0, 1, 0]), 0.7)) == 4


def test_boxes_are_cut_at_the_border() -> None:
    boxes = [[-5, -5, 3, 3], [8, 8, 20, 20], [12, 0, 15, 4], [4, 4, 4.5, 8]]
    cut = clip(found(boxes, [1, 1, 1, 1], [0, 0, 0, 0]), 10, 10)
    assert cut.boxes.tolist() == [[0, 0, 3, 3], [8, 8, 10, 10]]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(LabelError, match="finite"):
        found([[0, 0, 1, np.nan]], [0.5], [0])
    with pytest.raises(LabelError, match="finite"):
        found([[0, 0, 1, 1]], [np.inf], [0])
    labels = np.zeros((2, 2), np.uint8)
    with pytest.raises(LabelError, match="finite"):
        LabelImage(labels, np.full((2, 2), np.nan, np.float32))
    with pytest.raises(LabelError, match="reach"):
        LabelImage(labels, np.full((2, 2), 1.5, np.float32))
    with pytest.raises(LabelError, match="uint8"):
        LabelImage(labels.astype(np.int64), np.ones((2, 2), np.float32))  # type: ignore[arg-type]


IDS = {"car": [7], "traffic cone": [8, 9], "van": [10], "road": [11]}
PROMPTS = [Prompt("car", 0), Prompt("traffic cone", 1), Prompt("van", 0), Prompt("road", 2)]


def texts(most_tokens: int = 256) -> list:
    return prompt_texts(
        PROMPTS, IDS.__getitem__, begin=101, stop=1012, end=102, most_tokens=most_tokens
    )


def test_the_tokens_of_each_prompt() -> None:
    (text,) = texts()
    assert text.text == "car. traffic cone. van. road."
    assert text.input_ids == (101, 7, 1012, 8, 9, 1012, 10, 1012, 11, 1012, 102)
    assert text.spans == ((1, 2), (3, 5), (6, 7), (8, 9))


def test_scores_by_token_span_by_hand() -> None:
    (text,) = texts()
    #         CLS  car  .   traf cone .   van  .   road .    SEP
    token = [[0.0, 0.3, 0.1, 0.2, 0.6, 0.1, 0.4, 0.1, 0.1, 0.1, 0.0],
             [0.9, 0.1, 0.8, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2, 0.1, 0.0],
             [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.7, 0.1, 0.0]]  # fmt: skip
    scores = np.array(token)
    classes, by_class = class_scores(scores, text)
    assert classes.tolist() == [0, 1, 2]
    # "van" lifts car to 0.4; "cone" gives the cone its score
    np.testing.assert_allclose(by_class, [[0.4, 0.6, 0.1], [0.2, 0.1, 0.2], [0.1, 0.1, 0.7]])
    rows, class_ids, best = choose(scores, text, box_threshold=0.25, text_threshold=0.25)
    # the second box has a strong token, but at no prompt
    assert rows.tolist() == [0, 2]
    assert class_ids.tolist() == [1, 2]
    assert best.tolist() == pytest.approx([0.6, 0.7])
    rows, _, _ = choose(scores, text, box_threshold=0.65, text_threshold=0.25)
    assert rows.tolist() == [2]
    # the box threshold asks all tokens, the text threshold only those of prompts
    rows, class_ids, _ = choose(scores, text, box_threshold=0.85, text_threshold=0.15)
    assert (rows.tolist(), class_ids.tolist()) == ([1], [0])


def test_many_prompts_make_several_texts() -> None:
    first, second, third = texts(6)
    assert first.input_ids == (101, 7, 1012, 102)
    assert second.input_ids == (101, 8, 9, 1012, 102)
    assert third.input_ids == (101, 10, 1012, 11, 1012, 102)
    assert [part.class_ids for part in (first, second, third)] == [(0,), (1,), (0, 2)]
    assert len(texts(7)) == 2
    with pytest.raises(ConfigError, match="traffic cone"):
        texts(4)
    with pytest.raises(ConfigError, match="no prompts"):
        prompt_texts([], IDS.__getitem__, begin=1, stop=2, end=3, most_tokens=9)
