"""What runs are called that are shown together: by their masks, and by whatever else differs between them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from speakerquant.measuring.result import MaskRun
from speakerquant.report.mask_words import mask_name

_SEPARATOR = " · "
_FACT_LENGTH = 12  # characters that are shown of a fact
_ID_LENGTH = 8  # and of a multirun's id
SET_BY = {
    "trial list": {"data"},
    "trials": {"data"},
    "recordings": {"data"},
    "cohort": {"data", "scoring"},
    "score normalisation": {"scoring"},
    "checkpoint": {"model"},
    "in FP32 whatever the mask": {"model"},
    "calibration recordings": {"data", "calibration"},
    "rounding recordings": {"data", "calibration", "rounding"},
    "speakers": {"data"},
    "conditions": {"data"},
    "development list": {"data"},
    "weight bits": {"engine"},
}
"""Groups of the configuration that decide a fact."""

_Values = Sequence[str | None]


@dataclass(frozen=True)
class NamedRun:
    """A run with what tells it from those that it is shown with.

    Attributes:
        number: Its place among them.
        run: The run.
        words: What differs, apart from the mask, such as ``calibration=max``.
    """

    number: int
    run: MaskRun
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its mask and what differs; a run that failed before its mask was known goes by what was given."""
        return self.with_words(mask_name(self.run.mask) if self.run.mask else self.run.name)

    def without(self, words: Collection[str]) -> "NamedRun":
        """The run where these words go without saying."""
        return replace(self, words=tuple(word for word in self.words if word not in words))

    def with_words(self, subject: str) -> str:
        """What the subject is called where it is this run's."""
        return joined([subject, *self.words])


@dataclass(frozen=True)
class ComparableRuns:
    """Runs whose numbers may be compared.

    Attributes:
        words: What tells all of them from runs that they cannot be compared with; the runs are named without.
        runs: In their order.
    """

    words: tuple[str, ...]
    runs: Sequence[NamedRun]

    def titled(self, title: str) -> str:
        """The title of a table or a picture of these runs."""
        return joined([title, *self.words])

    @property
    def finished(self) -> Sequence[NamedRun]:
        """The runs that have numbers."""
        return [each for each in self.runs if not each.run.failure]


def joined(parts: Iterable[str]) -> str:
    """Parts of a name, in words."""
    return _SEPARATOR.join(part for part in parts if part)


def short_id(multirun: str) -> str:
    """As much of a multirun's id as tells it from others."""
    return multirun[:_ID_LENGTH]


def differing_settings(runs: Sequence[MaskRun]) -> list[str]:
    """Names of the settings that tell runs apart, masks left out."""
    return [name for name in _differences(runs) if any(name in run.settings for run in runs)]


def common_options(runs: Sequence[MaskRun]) -> dict[str, str]:
    """The options that all runs have of groups of the configuration, by group."""
    return {
        name: value
        for name, value in sorted(runs[0].settings.items())
        if _is_option(name, runs) and all(run.settings.get(name) == value for run in runs)
    }


def name_runs(runs: Sequence[MaskRun]) -> list[NamedRun]:
    """The runs with names of their own; equal ones of several multiruns say of which they are.

    Those that are equal in everything are numbered.
    """
    columns = [_words(name, values) for name, values in _differences(runs).items()]
    named = [
        NamedRun(number, run, tuple(column[number] for column in columns if column[number]))
        for number, run in enumerate(runs)
    ]
    multiruns: dict[str, set[str]] = {}
    for each in named:
        multiruns.setdefault(each.name, set()).add(each.run.multirun)
    named = [
        replace(each, words=(*each.words, f"multirun {short_id(each.run.multirun)}"))
        if len(multiruns[each.name]) > 1
        else each
        for each in named
    ]
    alike, seen = Counter(each.name for each in named), Counter[str]()
    for number, each in enumerate(named):
        seen[each.name] += 1
        if alike[each.name] > 1:
            named[number] = replace(each, words=(*each.words, f"run {seen[each.name]}"))
    return named


def comparable_runs(named: Sequence[NamedRun]) -> list[ComparableRuns]:
    """The runs by the facts that must be equal for runs to be compared.

    A run that failed, perhaps before these were known, is put where its settings are those of the others.
    """
    by_facts: dict[tuple[tuple[str, str], ...], list[NamedRun]] = {}
    for each in named:
        if not each.run.failure:
            by_facts.setdefault(tuple(sorted(each.run.facts.items())), []).append(each)
    if len(by_facts) <= 1:
        return [ComparableRuns((), named)]
    groups = [
        (common_words(members) or _facts_in_words(facts), members) for facts, members in by_facts.items()
    ]
    for each in named:
        if each.run.failure:
            fitting = (members for words, members in groups if {*words} <= {*each.words})
            next(fitting, groups[0][1]).append(each)
    return [
        ComparableRuns(
            words,
            [each.without(words) for each in sorted(members, key=lambda each: each.number)],
        )
        for words, members in groups
    ]


def common_words(named: Sequence[NamedRun]) -> tuple[str, ...]:
    """What all these runs have in common of what differs elsewhere."""
    return tuple(word for word in named[0].words if all(word in each.words for each in named))


def _differences(runs: Sequence[MaskRun]) -> dict[str, _Values]:
    """What differs, by name, with its value in every run; what follows from the rest of it is left out.

    What users chose is named as they did. From an option of a group, such as ``model=shipped``, follows what
    it brings with it, and from what is named its digest.
    """
    asked = dict.fromkeys(name for run in runs for name in _given(run.command))
    columns: dict[str, _Values] = {
        **{name: _setting(name, runs) for name in sorted({name for run in runs for name in run.settings})},
        **{name: [run.facts.get(name) for run in runs] for name in _names(run.facts for run in runs)},
        **{name: [run.made_with.get(name) for run in runs] for name in _names(run.made_with for run in runs)},
    }
    differing = {name: values for name, values in columns.items() if len({*values} - {None}) > 1}
    order = dict.fromkeys([*asked, *(name for name in differing if _is_option(name, runs)), *differing])
    told: dict[str, _Values] = {}
    for name in order:
        if name in differing:
            causes = [told[other] for other in told if _roots(other) & _roots(name)]
            if name in asked or not _follows(differing[name], causes):
                told[name] = differing[name]
    return told


def _given(command: str) -> list[str]:
    """Names of what a command sets; of long commands the end is not recorded, so quotes may be open."""
    return [argument.partition("=")[0].lstrip("'+~") for argument in command.split()[1:]]


def _names(mappings: Iterable[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _is_option(name: str, runs: Sequence[MaskRun]) -> bool:
    """Whether it names a group of the configuration, whose values are the options."""
    return "." not in name and any(name in run.settings for run in runs)


def _setting(name: str, runs: Sequence[MaskRun]) -> _Values:
    """A setting's values; where it is not set, that is one, but of options that a run has not recorded."""
    unset = None if _is_option(name, runs) else "null"
    return [run.settings.get(name, unset if run.settings else None) for run in runs]


def _roots(name: str) -> set[str]:
    """The groups of the configuration that a setting belongs to, or that decide a fact."""
    return SET_BY.get(name, {name.partition(".")[0]})


def _follows(values: _Values, causes: Sequence[_Values]) -> bool:
    """Whether runs that are equal in the causes have equal values."""
    known = [row for row in zip(*causes, values, strict=True) if row[-1] is not None]
    return len({*known}) == len({row[:-1] for row in known})


def _words(name: str, values: _Values) -> list[str]:
    """A difference in words, for every run; empty where it is not known."""
    if name in SET_BY:
        return [_fact_in_words(name, value) if value else "" for value in values]
    short = _tails({value for value in values if value is not None})
    return ["" if value is None else f"{name}={short[value]}" for value in values]


def _facts_in_words(facts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(_fact_in_words(*fact) for fact in facts)


def _fact_in_words(name: str, value: str) -> str:
    return f"{name} {value[:_FACT_LENGTH]}"


def _tails(values: Collection[str]) -> dict[str, str]:
    """Paths and addresses by as much of their ends as tells them apart, other values as they are."""
    parts = {value: [part for part in value.split("/") if part] for value in values}
    for depth in range(1, max(map(len, parts.values())) + 1):
        tails = {value: "/".join(found[-depth:]) for value, found in parts.items()}
        if len({*tails.values()}) == len(values):
            return tails
    return {value: value for value in values}
