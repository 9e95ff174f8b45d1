"""Files that MLflow has are not kept a second time."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine

from speakerquant.errors import UserError
from speakerquant.tracking.artifacts import REFERENCE_FILE, ArtifactReference, keep_once
from speakerquant.tracking.client import Tracking, connect
from speakerquant.tracking.recorded_runs import children, downloaded, downloaded_file
from speakerquant.tracking.runs import TrackedRun

pytestmark = pytest.mark.slow


@pytest.fixture
def tracking(tmp_path: Path, new_store: Callable[[Path], str]) -> Tracking:
    return connect(new_store(tmp_path), "experiment")


def test_a_file_and_its_artifact_on_one_file_system_take_room_once(
    tracking: Tracking, tmp_path: Path
) -> None:
    engine = tmp_path / "run" / "engine.bin"
    engine.parent.mkdir()
    engine.write_bytes(b"first")
    run = TrackedRun.start(tracking, "name")
    run.log_artifact(engine)
    keep_once(run, [engine])
    artifacts = run.artifact_folder()
    assert artifacts is not None and (artifacts / engine.name).samefile(engine)
    assert [path.name for path in engine.parent.iterdir()] == ["engine.bin"]

    # A later file of this name is another one, in the folder and then in MLflow.
    part = tmp_path / "part"
    part.write_bytes(b"second")
    part.replace(engine)
    (tmp_path / "copies").mkdir()
    assert downloaded_file(tracking, run.run_id, engine.name, tmp_path / "copies").read_bytes() == b"first"
    run.log_artifact(engine)
    assert downloaded_file(tracking, run.run_id, engine.name, tmp_path / "copies").read_bytes() == b"second"


def test_what_runs_have_kept_is_read_without_asking_the_store_for_each_file(
    tracking: Tracking, tmp_path: Path
) -> None:
    (tmp_path / "scores").write_bytes(b"kept")
    parent = TrackedRun.start(tracking, "multirun").run_id
    first, _ = (TrackedRun.start(tracking, name, parent) for name in ("first", "second"))
    first.log_artifact(tmp_path / "scores")
    runs = children(tracking, parent)
    asked: list[object] = []

    def note(*statement: object) -> None:
        asked.append(statement)

    sqlalchemy.event.listen(Engine, "before_cursor_execute", note)
    kept = [path and path.read_bytes() for path in downloaded(tracking, runs, "scores", tmp_path / "copies")]
    sqlalchemy.event.remove(Engine, "before_cursor_execute", note)
    assert kept == [b"kept", None]
    assert not asked


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system at /dev/shm")
def test_a_file_on_another_file_system_stays(tracking: Tracking, tmp_path: Path) -> None:
    engine = Path("/dev/shm") / f"speakerquant-{os.getpid()}.bin"
    engine.write_bytes(b"engine")
    try:
        if engine.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is on the same file system")
        run = TrackedRun.start(tracking, "name")
        run.log_artifact(engine)
        keep_once(run, [engine])
        assert engine.read_bytes() == b"engine"
    finally:
        engine.unlink()


@pytest.mark.parametrize("text", ["{", "[]", '{"uri": 1}', '{"uri": "", "run_id": "", "files": [1]}'])
def test_a_broken_reference_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / REFERENCE_FILE).write_text(text)
    with pytest.raises(UserError, match=f"{REFERENCE_FILE}: does not say where files are"):
        ArtifactReference.find(tmp_path)
