"""Places for labels in a picture: beside their points, and over neither another label nor any point.

Force-directed placement, as of adjustText, takes seconds for one unit per layer and still leaves labels over
points. This one takes the best of many places for one label after the other, which is fast and repeatable.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_NEAREST, _RINGS, _SIDES = 4.0, 24, 16  # pixels from the point, distances tried, directions tried
_MARGIN = 2.0  # pixels kept free around a label
_CROSSING = 40.0  # a line through a label is as bad as so many pixels between a label and its point


def place_labels(points: Array, sizes: Array, marks: Array, lines: Array, frame: Array) -> list[Array] | None:
    """One box for each label; none if the frame has no room for them.

    All arguments are in pixels. Boxes are ``(left, bottom, right, top)``.

    Args:
        points: What is labelled, ``[n, 2]``.
        sizes: Width and height of the labels, ``[n, 2]``.
        marks: Boxes that no label may cover, ``[m, 4]``; those of the points among them.
        lines: Segments ``(x0, y0, x1, y1)`` that labels avoid where they can, ``[k, 4]``.
        frame: The box that holds all labels.
    """
    placed: list[Array] = []
    for point, size in zip(points, sizes, strict=True):
        taken = _stack([marks, *placed])
        boxes = _candidates(point, size + 2 * _MARGIN, frame)
        boxes = boxes[_inside(boxes, frame) & ~_overlap(boxes, taken).any(axis=1)]
        if not len(boxes):
            return None
        leaders = np.hstack([np.broadcast_to(point, (len(boxes), 2)), nearest(point, boxes)])
        lengths = np.hypot(*(leaders[:, 2:] - leaders[:, :2]).T)
        crossings = _cross(lines, boxes).sum(axis=0) + _cross(leaders, taken).sum(axis=1)
        best = np.argmin(lengths + _CROSSING * crossings)
        placed.append(boxes[best])
        lines = _stack([lines, leaders[best]])
    return [box + _MARGIN * np.array([1, 1, -1, -1]) for box in placed]


def nearest(point: Array, boxes: Array) -> Array:
    """The place in each box that is nearest to the point."""
    return np.clip(point, boxes[..., :2], boxes[..., 2:])


def _stack(parts: Sequence[Array]) -> Array:
    return np.concatenate([part.reshape(-1, 4) for part in parts])


def _candidates(point: Array, size: Array, frame: Array) -> Array:
    """Boxes around the point on rectangles of growing distance, the upper right corner first."""
    angles = np.pi / 4 + np.arange(_SIDES) * 2 * np.pi / _SIDES
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    square = circle / np.abs(circle).max(axis=1, keepdims=True)
    distances = np.geomspace(_NEAREST, np.hypot(*(frame[2:] - frame[:2])), _RINGS)
    centers = point + (square * (distances[:, None, None] + size / 2)).reshape(-1, 2)
    return np.hstack([centers - size / 2, centers + size / 2])


def _inside(boxes: Array, frame: Array) -> Flags:
    left, bottom, right, top = boxes.T
    inside: Flags = (left >= frame[0]) & (bottom >= frame[1]) & (right <= frame[2]) & (top <= frame[3])
    return inside


def _overlap(boxes: Array, others: Array) -> Flags:
    """Which box overlaps which of the others, ``[boxes, others]``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (low[..., 0] < high[..., 0]) & (low[..., 1] < high[..., 1])


def _cross(segments: Array, boxes: Array) -> Flags:
    """Which segment meets which box, ``[segments, boxes]``.

    A segment is in a box while it is both between its left and right and between its bottom and top.
    """
    start = segments[:, None, :2]
    step = segments[:, None, 2:] - start
    step = np.where(step == 0, 1e-9, step)
    bounds = np.stack([(boxes[None, :, :2] - start) / step, (boxes[None, :, 2:] - start) / step])
    enters, leaves = bounds.min(axis=0).max(axis=2), bounds.max(axis=0).min(axis=2)
    met: Flags = (enters <= leaves) & (leaves >= 0) & (enters <= 1)
    return met
