"""Puts NVIDIA pytorch-quantization's quantizers into a network, switched off."""

import copy

from torch import Tensor, nn

from speakerquant.architectures.layers import LayerGeometry, LayerKind, QuantizableLayer, quantizable_layers
from speakerquant.errors import UserError
from speakerquant.quantization.pytorch_quantization import QuantDescriptor, TensorQuantizer

INPUT_QUANTIZER = QuantDescriptor(num_bits=8)
WEIGHT_QUANTIZER = QuantDescriptor(num_bits=8, axis=(0,))


class QuantizedLayer(nn.Module):
    """A layer with quantizers before its input and its weight, switched off.

    What the layer adds around its input it adds before the quantizer, which leaves such values in place.
    (NVIDIA's own layers take reflected and replicated padding for zeros.)

    Args:
        layer: The layer, whose weight and bias it shares.
    """

    def __init__(self, layer: QuantizableLayer) -> None:
        super().__init__()
        self.geometry = LayerGeometry.of(layer)
        self.weight, self.bias = layer.weight, layer.bias
        if self.bias is None and self.geometry.kind is LayerKind.linear:
            # Without one, it would be exported as a product of another form than other linear layers.
            self.bias = nn.Parameter(self.weight.new_zeros(self.geometry.out_channels))
        self.input_quantizer = TensorQuantizer(INPUT_QUANTIZER)
        self.weight_quantizer = TensorQuantizer(WEIGHT_QUANTIZER)
        self.input_quantizer.disable()
        self.weight_quantizer.disable()

    def forward(self, inputs: Tensor) -> Tensor:
        arranged = self.input_quantizer(self.geometry.arranged(inputs))
        outputs = self.geometry.compute(arranged, self.weight_quantizer(self.weight), self.bias)
        return self.geometry.restored(outputs, inputs)


def insert_quantizers(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose convolutions and linear layers carry disabled quantizers.

    Symmetric INT8; inputs per tensor, weights per output channel. The copy
    computes exactly what ``model`` computes until a quantizer is enabled.

    Raises:
        UserError: one layer has two names in the network, or a weight that is no parameter or another one's.
    """
    _check_names(model)
    _check_weights(model)
    quantized = copy.deepcopy(model).eval()
    for name, layer in quantizable_layers(quantized).items():
        parent_name, _, child_name = name.rpartition(".")
        setattr(quantized.get_submodule(parent_name), child_name, QuantizedLayer(layer).eval())
    return quantized


def _check_weights(model: nn.Module) -> None:
    names: dict[nn.Parameter, str] = {}
    for name, layer in quantizable_layers(model).items():
        if not isinstance(layer.weight, nn.Parameter):
            raise UserError(
                f"{name}: its weight is computed, as by weight normalisation; make it a parameter before, by "
                "remove_parametrizations or remove_weight_norm of torch.nn.utils"
            )
        if (first := names.setdefault(layer.weight, name)) != name:
            raise UserError(
                f"{first} and {name}: two layers share one weight, and each is quantized by itself; give one "
                "a copy, nn.Parameter(weight.detach().clone())"
            )


def _check_names(model: nn.Module) -> None:
    names: dict[nn.Module, str] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, QuantizableLayer) and names.setdefault(layer, name) != name:
            raise UserError(
                f"{names[layer]} and {name}: one layer under two names, and a layer that can be quantized "
                "must run once; give each use a layer of its own"
            )


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLayer]:
    """The layers that :func:`insert_quantizers` replaced, by module name, in network order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLayer)}
