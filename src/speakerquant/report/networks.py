"""Networks side by side on one list: is it the architecture or the bits that a mask loses by?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from speakerquant.measuring.engine_metrics import ENGINE_SIZE, LATENCY, SIZE_RATIO
from speakerquant.measuring.result import MaskRun
from speakerquant.report.run_names import ComparableRuns, NamedRun, common_words, comparable_runs, name_runs
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.metric import Loss, Metric
from speakerquant.statistics.uncertainty import Array, difference

SHOWN = (EER, EER.delta, ENGINE_SIZE, SIZE_RATIO, LATENCY)
"""The metrics that tables and reports show of every mask; ΔEER is to the FP32 engine of the same network."""

_CHECKPOINT = "checkpoint"


def networks_of(group: ComparableRuns) -> list[ComparableRuns]:
    """The finished runs of each network, with what tells it from the others."""
    by_checkpoint: dict[str, list[NamedRun]] = {}
    for each in group.finished:
        by_checkpoint.setdefault(each.run.made_with.get(_CHECKPOINT, ""), []).append(each)
    if len(by_checkpoint) <= 1:
        return [ComparableRuns((), group.finished)]
    everywhere = common_words(group.finished)
    networks = []
    for checkpoint, runs in by_checkpoint.items():
        words = tuple(word for word in common_words(runs) if word not in everywhere) or (checkpoint,)
        networks.append(ComparableRuns(words, [each.without(words) for each in runs]))
    return networks


def shown_metrics(group: ComparableRuns) -> Sequence[Metric]:
    """What tables show of these runs: of several networks also the difference from the first one's FP32."""
    across = _across(group)
    if across is None:
        return SHOWN
    place = SHOWN.index(EER.delta) + 1
    return (*SHOWN[:place], across, *SHOWN[place:])


def with_differences(runs: Sequence[MaskRun], draws: Sequence[Mapping[str, Array] | None]) -> list[MaskRun]:
    """The runs, those of several networks with their differences from the FP32 engine of the first network.

    Args:
        runs: Any.
        draws: Error metrics on every draw of the speakers ``[num_replicates]`` by name, of each run; None if
            it has none. Draws of one list are the same for all networks, so that differences are paired.
    """
    compared = list(runs)
    for group in comparable_runs(name_runs(runs)):
        reference, across = _reference(group), _across(group)
        if reference is None or across is None or (first := draws[reference.number]) is None:
            continue
        for each in group.finished:
            drawn = draws[each.number]
            if drawn is None or drawn[EER.name].shape != first[EER.name].shape:
                continue
            value = each.run.metrics[EER.name] - reference.run.metrics[EER.name]
            found = difference(value, drawn[EER.name], first[EER.name])
            numbers = {across.name: value}
            if found.low < found.high or each == reference:  # else no draw shows how sure it is
                numbers |= {across.low.name: found.low, across.high.name: found.high}
            compared[each.number] = replace(each.run, metrics=each.run.metrics | numbers)
    return compared


def has_several_networks(runs: Sequence[MaskRun]) -> bool:
    """Whether runs that may be compared are of different networks."""
    return any(len(networks_of(group)) > 1 for group in comparable_runs(name_runs(runs)))


def _across(group: ComparableRuns) -> Loss | None:
    """The difference from the reference as a metric; none where there is no reference."""
    reference = _reference(group)
    if reference is None:
        return None
    own = EER.delta
    return replace(own, name=f"{own.name}_to_first_network", heading=f"{own.heading} to {reference.name}")


def _reference(group: ComparableRuns) -> NamedRun | None:
    """The FP32 engine of the first of several networks, if that was measured."""
    first, *others = networks_of(group)
    baselines = (each for each in first.runs if each.run.is_baseline)
    baseline = next(baselines, None) if others else None
    return baseline and next(each for each in group.runs if each.number == baseline.number)
