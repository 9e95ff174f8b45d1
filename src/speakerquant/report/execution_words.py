"""Says of engines that they were built and not run, so that nobody takes their figures for measured ones."""


def built_only(scores_from: str) -> str:
    """In few words, where the error rates of engines come from that this machine cannot run."""
    return f"engines built, not run: error rates by {scores_from} on their networks"
