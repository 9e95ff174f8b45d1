"""Which marks of a picture have their names beside them."""

from collections.abc import Collection, Sequence

import numpy as np

from speakerquant.search.pareto import pareto_front

_MOST_LETTERS = 1000  # such as the names of thirty layers; more cannot be read, and hovering names them


def labelled(
    names: Sequence[str], places: Sequence[tuple[float, float]], always: Collection[int] = ()
) -> set[int]:
    """Numbers of the marks with a label: all, or of many ``always`` and the front, one at each place.

    Args:
        names: Those of all marks.
        places: The same, in a plane where less is better, along both axes.
        always: Numbers of marks that have a label whatever the others are.
    """
    if sum(map(len, names)) <= _MOST_LETTERS:
        return {*range(len(names))}
    front = np.flatnonzero(pareto_front(np.array(places)))
    return {*{places[number]: int(number) for number in (*front, *always)}.values()}
