"""Engines as models in MLflow's registry: registered with all that serving needs, found by their address."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import mlflow
import mlflow.pyfunc
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from speakerquant.errors import UserError, first_line
from speakerquant.tracking.client import Tracking, check_place, find_store, mlflow_settings
from speakerquant.tracking.recorded_runs import WITHOUT_BARS

_SCHEME = "models:/"
_REQUIREMENTS = ("speakerquant", "mlflow", "onnxruntime", "openvino", "torch", "torchaudio")


@dataclass(frozen=True)
class Interface:
    """How a model is asked, and what it answers.

    Attributes:
        loader: Module that MLflow loads the model with (``_load_pyfunc``).
        inputs: Names of the columns of a request, of any type.
        outputs: Type (MLflow's) of every column of an answer, by name.
        nullable: Names of the columns of an answer that may be null.
        params: Default of every number that a request may set, by name.
        example: A request: one value for each input.
    """

    loader: str
    inputs: Sequence[str]
    outputs: Mapping[str, str]
    nullable: Collection[str]
    params: Mapping[str, float]
    example: Mapping[str, str]

    @property
    def signature(self) -> ModelSignature:
        """Inputs, outputs and parameters in MLflow's terms."""
        anything = AnyType()  # type: ignore[no-untyped-call]
        return ModelSignature(
            Schema([ColSpec(anything, name) for name in self.inputs]),
            Schema(
                [
                    ColSpec(DataType[kind], name, required=name not in self.nullable)
                    for name, kind in self.outputs.items()
                ]
            ),
            ParamSchema([ParamSpec(name, DataType.double, value) for name, value in self.params.items()]),
        )


def register_model(
    tracking: Tracking, run_id: str, files: Path, interface: Interface, name: str, alias: str | None
) -> str:
    """Register files of a run as a new version of a model.

    Args:
        tracking: The experiment.
        run_id: The run.
        files: Folder with them.
        interface: How the model is asked.
        name: Of the model.
        alias: Leads to this version from now on; none leaves aliases alone.

    Returns:
        The version.

    Raises:
        UserError: the registry refuses the name or the alias, or is none; or as
            :func:`speakerquant.tracking.client.check_place`.
    """
    client = tracking.client
    check_place(client, client.get_experiment(tracking.experiment_id))
    with tempfile.TemporaryDirectory() as folder, mlflow_settings(WITHOUT_BARS):
        saved = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            saved,
            loader_module=interface.loader,
            data_path=str(files),
            signature=interface.signature,
            input_example=[dict(interface.example)],
            pip_requirements=[*map(_requirement, _REQUIREMENTS)],
        )
        mlflow.set_tracking_uri(client.tracking_uri)  # where MLflow looks up the models of versions
        try:
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            logged = client.create_logged_model(tracking.experiment_id, name, source_run_id=run_id)
            client.log_model_artifacts(logged.model_id, str(saved))
            client.finalize_logged_model(logged.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
            address = f"{_SCHEME}{logged.model_id}"
            registered = client.create_model_version(name, address, run_id, model_id=logged.model_id)
        except MlflowException as error:
            raise UserError(f"name={name}: cannot be registered ({first_line(error)})") from None
    if alias is not None:
        try:
            client.set_registered_model_alias(name, alias, registered.version)
        except MlflowException as error:
            raise UserError(
                f"alias={alias}: refused ({first_line(error)}); version {registered.version} has none"
            ) from None
    return str(registered.version)


def is_model_address(text: str) -> bool:
    """Whether it is an address such as ``models:/name@alias`` or ``models:/name/1``, and no path."""
    return text.startswith(_SCHEME)


def downloaded_model(uri: str, address: str, folder: Path) -> Path:
    """A copy of a registered model.

    Args:
        uri: The MLflow store.
        address: Of the model.
        folder: Where the copy goes.

    Raises:
        UserError: the store does not answer, or there is no such model, any more.
    """
    mlflow.set_tracking_uri(find_store(uri).tracking_uri)
    try:
        with mlflow_settings(WITHOUT_BARS):
            copy = download_artifacts(address, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise _no_such_model(uri, address, error) from None
    return Path(copy)


def run_of_model(uri: str, address: str) -> str:
    """The id of the run whose engine a registered model is.

    Args:
        uri: The MLflow store.
        address: Of the model.

    Raises:
        UserError: the store does not answer, or there is no such model, any more.
    """
    client = find_store(uri)
    try:
        name, version = get_model_name_and_version(client, address)  # type: ignore[no-untyped-call]
        return str(client.get_model_version(name, version).run_id)
    except (MlflowException, ValueError) as error:
        raise _no_such_model(uri, address, error) from None


def _requirement(package: str) -> str:
    """A package as pip names it, which for ONNX Runtime with CUDA is otherwise than its module."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        distribution = packages_distributions()[package][0]
        return f"{distribution}=={version(distribution)}"


def _no_such_model(uri: str, address: str, error: Exception) -> UserError:
    return UserError(f"{address}: no such model in {uri} ({first_line(error)[:200]}); see its Models page")


def parameters_of(model: Path) -> dict[str, float]:
    """Default of every number that a request to a model may set, by name, from a copy of the model."""
    signature = Model.load(str(model)).signature
    params = signature.params if signature else None
    return {param.name: param.default for param in params or () if isinstance(param.default, float)}
