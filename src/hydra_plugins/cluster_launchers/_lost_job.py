"""What a launcher returns for a job that its cluster lost."""

from collections.abc import Sequence
from typing import NoReturn

from hydra.core.utils import JobReturn, JobStatus, filter_overrides

from speakerquant.errors import UserError


class LostJob(JobReturn):
    """A job that was broken off from outside: by a failing node, preemption, ``scancel`` or a time limit.

    A search asks it again: the status says that nothing is known of its point. In a plain multirun Hydra's
    sweeper asks for the return value when all jobs have ended, and so ends the command.

    Args:
        overrides: Those of the job.
        reason: What the cluster says of it.
    """

    def __init__(self, overrides: Sequence[str], reason: str) -> None:
        super().__init__(overrides, status=JobStatus.UNKNOWN, _return_value=UserError(reason))

    @property  # type: ignore[misc]  # there is nothing to set
    def return_value(self) -> NoReturn:
        what = " ".join(filter_overrides(self.overrides or []))
        raise UserError(
            f"lost: {self._return_value}; the others' results are kept, run again what is missing: {what}"
        )
