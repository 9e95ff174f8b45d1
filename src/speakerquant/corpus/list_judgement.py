"""What a trial list can and cannot carry, known before a network has run: a line for each finding.

A line says what was found, of how many, what that means and what to do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.conditions import Conditions
from speakerquant.corpus.recordings import Recordings
from speakerquant.corpus.trials import IndexArray, Trials
from speakerquant.statistics.expected_intervals import ExpectedIntervals

SUPPOSED_EER = 2.0
"""Percent, for which intervals are expected."""

INT8_ALIKE, INT2_ALIKE = 0.9999, 0.99
"""Correlation of a quantized network's scores with FP32's, as measured with the shipped checkpoint."""

UNKNOWN = -1
"""Number of what is not known."""

_LIBRISPEECH_NAME = re.compile(r"(\d+-\d+)-\d+")
_UNEVEN = 0.25  # of the speakers or recordings, which carry half of the trials; of equal ones it is half
_LONGER = 1.3  # times as long
_OTHER_SHARE = 1.25  # times as many non-target trials for each target trial
_LEAST_BOTH = 0.5  # of the enrolled or tested recordings; where as many are both, sides mean nothing

_Array = npt.NDArray[np.float64]


def sessions_of(recordings: Recordings, trials: Trials) -> IndexArray:
    """The session of each recording, by number, ``[num_recordings]``: the folders below its speaker's.

    In LibriSpeech's names it is the chapter. ``UNKNOWN`` where nothing tells it.
    """
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        path = PurePath(name)
        folders, speaker = path.parts[:-1], recordings.speaker_of(name)
        if speaker in folders[:-1]:
            session = str(path.parent)
        elif chapter := _LIBRISPEECH_NAME.fullmatch(path.stem):
            session = chapter[1]
        else:
            return UNKNOWN
        return numbers.setdefault(session, len(numbers))

    return np.array([number(name) for name in trials.recordings], np.int32)


def judge_sessions(trials: Trials, speakers: IndexArray, sessions: IndexArray) -> Iterator[str]:
    """Whether target trials are of two sessions, or of one, where room and microphone are the same too.

    Args:
        trials: The list.
        speakers: Of each recording, ``[num_recordings]``.
        sessions: Likewise, of :func:`sessions_of`.
    """
    left, right = trials.left[trials.labels], trials.right[trials.labels]
    known = (sessions[left] != UNKNOWN) & (sessions[right] != UNKNOWN)
    if not known.any():
        yield (
            "sessions: the names tell none, so whether target trials cross sessions is not known; if every "
            "speaker was recorded once, rooms are recognised too, and error rates look better"
        )
        return
    within = known & (sessions[left] == sessions[right])
    across_of = np.bincount(speakers[left[known & ~within]], minlength=speakers.max() + 1)
    within_of = np.bincount(speakers[left[within]], minlength=speakers.max() + 1)
    only_within = np.count_nonzero((within_of > 0) & (across_of == 0))
    all_known = "" if known.all() else f" (of {len(known) - known.sum()} more it is not known)"
    if not within.any():
        yield f"sessions: each of {known.sum()} target trials is of two sessions{all_known}"
        return
    whose = f", and all those of {only_within} speakers" if only_within else ""
    yield (
        f"sessions: {within.sum()} of {known.sum()} target trials are of one session{whose}{all_known}; "
        "rooms are recognised too there, and error rates look better: pair recordings of different sessions"
    )


def judge_balance(trials: Trials, speakers: IndexArray) -> Iterator[str]:
    """How many speakers and recordings carry half of the trials.

    Args:
        trials: The list.
        speakers: Of each recording, ``[num_recordings]``.
    """
    expected = ExpectedIntervals(speakers[trials.left], speakers[trials.right], trials.labels)
    for kind, target in (("target", True), ("non-target", False)):
        counts = {"speakers": expected.num_trials_of_speakers(target=target)}
        for side, places in _sides(trials).items():
            of_recordings = np.bincount(places[np.resize(trials.labels, len(places)) == target])
            counts[f"{side} recordings".lstrip()] = of_recordings[of_recordings > 0]
        halves = {what: (_carry_half(each), len(each)) for what, each in counts.items()}
        few = [what for what, (half, number) in halves.items() if half < _UNEVEN * number]
        listed = ", ".join(f"{half} of {number} {what}" for what, (half, number) in halves.items())
        yield f"balance: {listed} carry half of the {kind} trials" + (
            f"; few {' and '.join(few)} decide the error rates: take as many trials of each" if few else ""
        )


def _sides(trials: Trials) -> Mapping[str, IndexArray]:
    """The recordings of the trials by their part in them; of none where the same ones stand on either side.

    A trial comes once on each side, or, where there are none, twice: all first recordings, then all second.
    """
    enrolled, tested = (_mentioned(trials, side) for side in (trials.left, trials.right))
    num_both = np.count_nonzero(enrolled & tested)
    if num_both < _LEAST_BOTH * min(np.count_nonzero(enrolled), np.count_nonzero(tested)):
        return {"enrolled": trials.left, "tested": trials.right}
    return {"": np.concatenate([trials.left, trials.right])}


def _mentioned(trials: Trials, places: IndexArray) -> npt.NDArray[np.bool_]:
    """Which recordings are among these, ``[num_recordings]``."""
    return np.bincount(places, minlength=len(trials.recordings)) > 0


def _carry_half(counts: npt.NDArray[np.integer]) -> int:
    """How few of these have half of all."""
    falling = np.sort(counts)[::-1]
    return int(np.searchsorted(2 * np.cumsum(falling), falling.sum())) + 1


def judge_length(trials: Trials, speakers: IndexArray, difference: float | None = None) -> Iterator[str]:
    """What the list can show: its smallest steps, and the intervals to be expected.

    Args:
        trials: The list.
        speakers: Of each recording, ``[num_recordings]``.
        difference: Of two EERs in percent, which it shall show.
    """
    expected = ExpectedIntervals(speakers[trials.left], speakers[trials.right], trials.labels)
    num_targets = int(trials.labels.sum())
    step, other_step = 100 / num_targets, 100 / (len(trials) - num_targets)
    tested = np.count_nonzero(expected.num_trials_of_speakers(target=True))
    interval = expected.of_eer(SUPPOSED_EER)
    int8, int2 = (
        expected.half_width_of_difference(SUPPOSED_EER, alike) for alike in (INT8_ALIKE, INT2_ALIKE)
    )
    yield (
        f"steps: one target trial is {_rounded(step)} % of the misses, one other trial "
        f"{_rounded(other_step)} % of the false accepts; target trials are of {tested} speakers"
    )
    yield (
        f"intervals: at an EER of {SUPPOSED_EER:g} % expect {interval.low:.2f} to {interval.high:.2f} %, and "
        f"of a difference ± {_rounded(int8)} % with INT8 (scores correlate by {INT8_ALIKE}), "
        f"± {_rounded(int2)} % with 2 bits ({INT2_ALIKE}); the EER, and how alike scores are, a run tells"
    )
    if difference is None:
        return
    least = {
        what: expected.shown_difference(SUPPOSED_EER, alike)
        for what, alike in (("INT8", INT8_ALIKE), ("2 bits", INT2_ALIKE))
    }
    # Steps shrink with the number of trials, intervals with its square root.
    needed = {
        what: max((each / difference) ** 2, step / difference, other_step / difference)
        for what, each in least.items()
    }
    shown = [what for what, times in needed.items() if times <= 1]
    more = [
        f"{_rounded(times)} times as many speakers with {what}" for what, times in needed.items() if times > 1
    ]
    said = (
        f"is shown with {' and '.join(shown)} by at least four of five such lists"
        if shown
        else "is too little: fewer than four of five such lists show it"
    )
    yield f"difference: {difference:g} % {said}" + (f"; take about {' and '.join(more)}" if more else "")


def _rounded(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def judge_conditions(
    trials: Trials, speakers: IndexArray, conditions: Conditions, seconds: Mapping[str, float]
) -> Iterator[str]:
    """Whether what differs between the conditions of a column is more than the condition.

    A trial is of the condition of its tested recording. Where the same recordings stand on either side,
    a list has no tested ones, and a trial is of the conditions of both.

    Args:
        trials: The list.
        speakers: Of each recording, ``[num_recordings]``.
        conditions: Of its recordings; those of whom none is known are left out.
        seconds: How long a recording is, by name, likewise.
    """
    if conditions:
        yield from _judge_enrolment(trials)
    for column, values in conditions.items():
        for finding in _judge_column(trials, speakers, values, seconds):
            yield f"{column}, {finding}"


def _judge_enrolment(trials: Trials) -> Iterator[str]:
    """A speaker's own enrolment is no test."""
    sides = _sides(trials)
    if len(sides) > 1:
        enrolled, tested = (_mentioned(trials, places) for places in sides.values())
        if len(both := np.flatnonzero(enrolled & tested)):
            yield (
                f"enrolment: {len(both)} of {np.count_nonzero(enrolled)} enrolled recordings are tested too, "
                f"such as {trials.recordings[both[0]]}; a speaker's own enrolment is no test: take them off "
                "one side"
            )


def _judge_column(
    trials: Trials, speakers: IndexArray, values: Sequence[str | None], seconds: Mapping[str, float]
) -> Iterator[str]:
    names = sorted({value for value in values if value is not None})
    if len(names) < 2:
        yield f"conditions: {len(names)} among the recordings of the list; nothing to compare"
        return
    numbers = {name: number for number, name in enumerate(names)}
    condition_of = np.array([UNKNOWN if value is None else numbers[value] for value in values], np.int32)
    *_, places = _sides(trials).values()
    labels = np.resize(trials.labels, len(places))
    known = condition_of[places] != UNKNOWN
    are_tested = _mentioned(trials, places)
    if num_left_out := np.count_nonzero(are_tested & (condition_of == UNKNOWN)):
        yield (
            f"conditions: {num_left_out} of {np.count_nonzero(are_tested)} tested recordings have none and "
            "are left out: name theirs"
        )
    places, labels = places[known], labels[known]
    in_condition = condition_of[places]
    yield from _judge_durations(
        trials, np.flatnonzero(_mentioned(trials, places)), condition_of, names, seconds
    )
    for who, kind in (("impostors", ~labels), ("target speakers", labels)):
        yield from _judge_speakers(speakers[places[kind]], in_condition[kind], names, who)
    targets, all_of = (
        np.bincount(chosen, minlength=len(names)).astype(np.float64)
        for chosen in (in_condition[labels], in_condition)
    )
    yield from _judge_shares(targets, all_of - targets, names)


def _judge_durations(
    trials: Trials,
    tested: npt.NDArray[np.integer],
    condition_of: IndexArray,
    names: Sequence[str],
    seconds: Mapping[str, float],
) -> Iterator[str]:
    """Short recordings are recognised worse, so that lengths and conditions must not go together."""
    quartiles = {}
    for number, name in enumerate(names):
        chosen = (trials.recordings[index] for index in tested[condition_of[tested] == number])
        lengths = [seconds[recording] for recording in chosen if recording in seconds]
        if lengths:
            quartiles[name] = np.percentile(lengths, [25, 50, 75])
    if len(quartiles) < 2:
        return
    values = np.array(list(quartiles.values()))
    ratios = values.max(axis=0) / values.min(axis=0)
    which = int(np.argmax(ratios))
    if ratios[which] >= _LONGER:
        by_length = sorted(quartiles, key=lambda name: float(quartiles[name][which]))
        short, long = by_length[0], by_length[-1]
        where = ("a quarter is below", "half is below", "a quarter is above")[which]
        yield (
            f"durations: {where} {quartiles[long][which]:.1f} s in {long} and {quartiles[short][which]:.1f} "
            f"s in {short} ({ratios[which]:.1f} times); what differs may be the length: take recordings of "
            "the same length"
        )


def _judge_speakers(
    speakers: IndexArray, in_condition: IndexArray, names: Sequence[str], who: str
) -> Iterator[str]:
    """Other speakers are harder or easier to tell apart, whatever the condition."""
    pairs = np.unique(speakers.astype(np.int64) * len(names) + in_condition)
    of_speaker = np.bincount(pairs // len(names))
    num_all, num_everywhere = np.count_nonzero(of_speaker), np.count_nonzero(of_speaker == len(names))
    if num_everywhere < num_all:
        counts = np.bincount(pairs % len(names), minlength=len(names))
        listed = ", ".join(f"{count} in {name}" for name, count in zip(names, counts, strict=True))
        yield (
            f"{who}: of {num_all} only {num_everywhere} are in every condition ({listed}); what differs may "
            "be the speakers" + (": take those that are in all" if num_everywhere else "")
        )


def _judge_shares(targets: _Array, others: _Array, names: Sequence[str]) -> Iterator[str]:
    """Error rates over all conditions weigh these by their trials of each kind."""
    for kind, counts in (("target", targets), ("non-target", others)):
        if missing := [name for name, count in zip(names, counts, strict=True) if not count]:
            yield f"shares: no {kind} trial in {', '.join(missing)}, which has no error rate then: add some"
            return
    ratios = others / targets
    most, fewest = int(np.argmax(ratios)), int(np.argmin(ratios))
    if ratios[most] >= _OTHER_SHARE * ratios[fewest]:
        yield (
            f"shares: {ratios[most]:.2g} non-target trials for each target trial in {names[most]}, "
            f"{ratios[fewest]:.2g} in {names[fewest]}; thresholds and minDCF over all of them, and their "
            "intervals, are not comparable: take the same share in each"
        )
