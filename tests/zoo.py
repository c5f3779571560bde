"""Small float64 networks with batches: everything that the products must be right on, one case each.

`CASES[name].build()` gives a fresh model and loss, always the same; `.batch(n)` a batch of n examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

F64 = torch.float64


@dataclass(frozen=True)
class Case:
    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[int], object]
    targets: Callable[[int], Tensor]
    loss: Callable[[], Callable[[Tensor, Tensor], Tensor]] = nn.CrossEntropyLoss
    train: bool = True
    hessian: bool = True  # False where torch has no second derivative, or a wrong one
    may_refuse: bool = False  # an honest error is as good as the right answer; a wrong answer is not

    def build(self, dtype: torch.dtype = F64) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = self.model().double().train(self.train)
            with torch.no_grad():
                for parameter in model.parameters():  # no norm with weights of exactly one, no bias of exactly zero
                    parameter.add_(0.1 * torch.randn_like(parameter))
                for name, buffer in model.named_buffers():
                    if "running" in name:
                        buffer.add_(0.3 * torch.rand_like(buffer))
            loss = self.loss()
            if isinstance(loss, nn.Module):
                loss.double()
        if dtype != F64:
            model.to(dtype)
            if isinstance(loss, nn.Module):
                loss.to(dtype)
        return model, loss

    def batch(self, n: int = 3, seed: int = 2, dtype: torch.dtype = F64) -> tuple[object, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inputs, targets = self.inputs(n), self.targets(n)
        return _cast(inputs, dtype), _cast(targets, dtype)

    def batches(self, *sizes: int, dtype: torch.dtype = F64) -> list[tuple[object, Tensor]]:
        return [self.batch(n, seed=10 + i, dtype=dtype) for i, n in enumerate(sizes or (4, 3))]


def _cast(value, dtype: torch.dtype):
    if isinstance(value, dict):
        return {k: _cast(v, dtype) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_cast(v, dtype) for v in value)
    return value.to(dtype) if value.is_floating_point() else value


CASES: dict[str, Case] = {}


def add(name: str, model, inputs, targets, loss=nn.CrossEntropyLoss, **options) -> None:
    assert name not in CASES, name
    CASES[name] = Case(name, model, inputs, targets, loss, **options)


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def real(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, *shape, dtype=F64)


def positive(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.rand(n, *shape, dtype=F64) + 0.2


def classes(k: int, *shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(k, (n, *shape))


def tokens(k: int, length: int) -> Callable[[int], Tensor]:
    """Whole numbers below k; the first of every row is 0 (the padding, where a model has one)."""

    def make(n: int) -> Tensor:
        out = torch.randint(k, (n, length))
        out[:, 0] = 0
        return out

    return make


def zero_one(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(2, (n, *shape)).double()


def probabilities(k: int, *shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.rand(n, k, *shape, dtype=F64).softmax(1)


def some_ignored(k: int, ignored: int, *shape: int) -> Callable[[int], Tensor]:
    """Class indices, the first entry of the batch and every third one after it ignored."""

    def make(n: int) -> Tensor:
        out = torch.randint(k, (n, *shape))
        out.view(-1)[::3] = ignored
        return out

    return make


def mse() -> nn.MSELoss:
    return nn.MSELoss()


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Apply(nn.Module):
    """A plain function of the activations."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


def around(function, width: int = 6, d_in: int = 4, d_mid: int | None = None, d_out: int = 3) -> nn.Module:
    """Linear → a function or module → Linear: both the function's input and what follows depend on parameters."""
    middle = function if isinstance(function, nn.Module) else Apply(function)
    return nn.Sequential(nn.Linear(d_in, width), middle, nn.Linear(d_mid or width, d_out))


class Flow(nn.Module):
    """A dictionary of submodules and a forward written as a function of (modules, inputs …)."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module | nn.Parameter):
        super().__init__()
        self.body = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        return self.body(self, *inputs, **named)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


# ── dense layers and element-wise functions ──────────────────────────────────────────────────────────────────────────

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "inplace-relu": lambda h: F.relu(h, inplace=True),
    "leaky-relu": lambda h: F.leaky_relu(h, 0.2),
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu-tanh": lambda h: F.gelu(h, approximate="tanh"),
    "silu": F.silu,
    "inplace-silu": lambda h: F.silu(h, inplace=True),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "softplus": F.softplus,
    "softplus-beta": lambda h: F.softplus(h, beta=2.0, threshold=1.0),
    "tanh": torch.tanh,
    "inplace-tanh": lambda h: h.tanh_(),
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "hardtanh": lambda h: F.hardtanh(h, -0.5, 0.5),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda h: F.softshrink(h, 0.2),
    "threshold": lambda h: F.threshold(h, 0.1, -1.0),
    "log-softmax": lambda h: F.log_softmax(h, dim=1),
    "softmax": lambda h: F.softmax(h, dim=1),
    "softmax-dim0": lambda h: h.softmax(0),
    "sin-cos": lambda h: h.sin() * h.cos(),
    "exp-log": lambda h: torch.log(1 + torch.exp(h)),
    "log1p-expm1": lambda h: torch.log1p(h**2) + torch.expm1(0.1 * h),
    "sqrt": lambda h: torch.sqrt(h**2 + 1),
    "rsqrt": lambda h: torch.rsqrt(h**2 + 1),
    "reciprocal": lambda h: (h**2 + 1).reciprocal(),
    "erf": torch.erf,
    "atan": torch.atan,
    "abs": torch.abs,
    "pow-number": lambda h: (h**2 + 0.5) ** 1.7,
    "pow-tensor": lambda h: (h**2 + 0.5) ** (0.1 * h),
    "number-pow": lambda h: 1.5**h,
    "square": lambda h: h.square(),
    "cube": lambda h: h**3,
    "div": lambda h: h / (1 + h.roll(1, 1) ** 2),
    "number-div": lambda h: 1.0 / (3 + h.tanh()),
    "rsub": lambda h: 1 - h * h,
    "clamp": lambda h: h.clamp(-0.4, 0.6),
    "maximum": lambda h: torch.maximum(h, h.flip(1)),
    "where": lambda h: torch.where(h > 0, h * h, 0.3 * h),
    "lerp": lambda h: torch.lerp(h, h.flip(1), 0.3),
    "addcmul": lambda h: torch.addcmul(h, h.flip(1), h.roll(1, 1), value=0.5),
    "addcdiv": lambda h: torch.addcdiv(h, h.flip(1), 1 + h**2, value=0.5),
    "same-operand-twice": lambda h: h * h + h,
    "multiply-by-zero-dim": lambda h: h * h.sum(),
}
for _name, _function in ACTIVATIONS.items():
    add(f"act/{_name}", lambda f=_function: around(f), real(4), classes(3), hessian=_name != "hardsigmoid")
add("act/prelu", lambda: around(nn.PReLU(6)), real(4), classes(3))
add("act/glu", lambda: around(nn.GLU(dim=1), d_mid=3), real(4), classes(3))

add("dense/linear", lambda: nn.Linear(4, 3), real(4), classes(3))
add("dense/linear-mse", lambda: nn.Linear(4, 2), real(4), real(2), mse)
add(
    "dense/no-bias",
    lambda: nn.Sequential(nn.Linear(4, 5, False), nn.Tanh(), nn.Linear(5, 3, False)),
    real(4),
    classes(3),
)
add(
    "dense/mlp",
    lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
    real(4),
    classes(3),
)
add("dense/one-output", lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)), real(4), real(1), mse)
add(
    "dense/three-dimensions",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), Apply(lambda h: h.transpose(1, 2))),
    real(2, 4),
    classes(3, 2),
)
add(
    "dense/bilinear",
    lambda: Flow(
        lambda m, x: m.outer(m.mix(m.a(x), m.b(x).tanh())),
        a=nn.Linear(3, 3),
        b=nn.Linear(3, 2),
        mix=nn.Bilinear(3, 2, 3),
        outer=nn.Linear(3, 3),
    ),
    real(3),
    classes(3),
)
add(
    "dense/weight-norm",
    lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)),
        nn.Tanh(),
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)),
    ),
    real(4),
    classes(3),
    hessian=False,
)
add(
    "dense/spectral-norm",
    lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
    train=False,
)
add(
    "dense/orthogonal",
    lambda: nn.Sequential(
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley"), nn.Tanh(), nn.Linear(4, 3)
    ),
    real(4),
    classes(3),
    may_refuse=True,
)
add(
    "dense/scalar-parameter",
    lambda: Flow(
        lambda m, x: m.a(x).tanh() * m.scale + m.shift, a=nn.Linear(4, 3), scale=parameter(), shift=parameter(3)
    ),
    real(4),
    classes(3),
)
add(
    "dense/unused-parameters",
    lambda: Flow(lambda m, x: m.a(x).tanh(), idle=nn.Linear(2, 2), a=nn.Linear(4, 3), alone=parameter(3)),
    real(4),
    classes(3),
)
add(
    "dense/parameters-without-input",
    lambda: Flow(lambda m, x: x + (m.u @ m.v).tanh().sum(0), u=parameter(3, 2), v=parameter(2, 3)),
    real(3),
    real(3),
    mse,
)
add(
    "dense/tuple-of-inputs",
    lambda: Flow(lambda m, x, y: m.c(m.a(x) * m.b(y)), a=nn.Linear(3, 4), b=nn.Linear(2, 4), c=nn.Linear(4, 3)),
    lambda n: (real(3)(n), real(2)(n)),
    classes(3),
)
add(
    "dense/dict-of-inputs",
    lambda: Flow(
        lambda m, first, second: m.c(m.a(first) * m.b(second)), a=nn.Linear(3, 4), b=nn.Linear(2, 4), c=nn.Linear(4, 3)
    ),
    lambda n: {"first": real(3)(n), "second": real(2)(n)},
    classes(3),
)
add(
    "dense/output-not-contiguous",
    lambda: Flow(lambda m, x: m.b(m.a(x).tanh().t()).t(), a=nn.Linear(4, 3), b=Apply(lambda h: h * h)),
    real(4),
    classes(3),
)
add(
    "dense/frozen-layer",
    lambda: nn.Sequential(
        nn.Linear(4, 5).requires_grad_(False),
        nn.Tanh(),
        nn.Linear(5, 4),
        nn.Tanh(),
        nn.Linear(4, 3).requires_grad_(False),
    ),
    real(4),
    classes(3),
)

# ── convolutions and pooling ─────────────────────────────────────────────────────────────────────────────────────────


def head(*layers: nn.Module, features: int, k: int = 3) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, k))


add("conv/1d", lambda: head(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Conv1d(3, 2, 2), features=6), real(2, 6), classes(3))
add(
    "conv/1d-stride-padding",
    lambda: head(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Conv1d(3, 2, 2, bias=False), features=4),
    real(2, 6),
    classes(3),
)
add("conv/2d", lambda: head(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2), features=8), real(2, 5, 5), classes(3))
add(
    "conv/2d-stride-padding-dilation",
    lambda: head(
        nn.Conv2d(1, 3, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.Tanh(), nn.Conv2d(3, 1, 2), features=8
    ),
    real(1, 5, 5),
    classes(3),
)
add(
    "conv/2d-groups",
    lambda: head(nn.Conv2d(2, 4, 2, groups=2), nn.Tanh(), nn.Conv2d(4, 4, 2, groups=4), features=16),
    real(2, 4, 4),
    classes(3),
)
add(
    "conv/2d-same",
    lambda: head(nn.Conv2d(1, 2, 2, padding="same"), nn.Tanh(), nn.Conv2d(2, 1, 3, padding="same"), features=9),
    real(1, 3, 3),
    classes(3),
)
add(
    "conv/2d-circular",
    lambda: head(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Tanh(), nn.Conv2d(2, 1, 2), features=4),
    real(1, 3, 3),
    classes(3),
)
add(
    "conv/2d-reflect",
    lambda: head(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Tanh(), nn.Conv2d(2, 1, 2), features=4),
    real(1, 3, 3),
    classes(3),
)
add(
    "conv/3d", lambda: head(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Conv3d(2, 1, 2), features=1), real(1, 3, 3, 3), classes(3)
)
add(
    "conv/transpose-1d",
    lambda: head(nn.ConvTranspose1d(2, 3, 3, stride=2), nn.Tanh(), nn.Conv1d(3, 1, 3), features=5),
    real(2, 3),
    classes(3),
)
add(
    "conv/transpose-2d",
    lambda: head(
        nn.Conv2d(1, 2, 2),
        nn.Tanh(),
        nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2),
        features=32,
    ),
    real(1, 3, 3),
    classes(3),
)
add(
    "conv/channels-last",
    lambda: head(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 2), features=8).to(memory_format=torch.channels_last),
    lambda n: real(2, 4, 4)(n).to(memory_format=torch.channels_last),
    classes(3),
)

POOLING: dict[str, tuple[nn.Module, int]] = {
    "max": (nn.MaxPool2d(2), 8),
    "max-overlap": (nn.MaxPool2d(3, stride=1, padding=1), 32),
    "avg": (nn.AvgPool2d(2), 8),
    "avg-padding": (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), 8),
    "adaptive-avg": (nn.AdaptiveAvgPool2d((3, 2)), 12),
    "adaptive-avg-one": (nn.AdaptiveAvgPool2d(1), 2),
    "adaptive-max": (nn.AdaptiveMaxPool2d((3, 2)), 12),
    "lp": (nn.LPPool2d(2, 2), 8),
    "upsample-nearest": (nn.Upsample(scale_factor=2, mode="nearest"), 128),
    "upsample-bilinear": (nn.Upsample(size=(3, 5), mode="bilinear", align_corners=False), 30),
    "pixel-shuffle": (nn.PixelUnshuffle(2), 32),
    "zero-pad": (nn.ZeroPad2d((1, 0, 0, 2)), 60),
    "pad-reflect": (nn.ReflectionPad2d(1), 72),
    "unfold": (nn.Unfold(3), 36 * 2),
}
for _name, (_pool, _features) in POOLING.items():
    add(
        f"pool/{_name}",
        lambda p=_pool, f=_features: head(nn.Conv2d(1, 2, 2), nn.Tanh(), p, features=f, k=2),
        real(1, 5, 5),
        classes(2),
    )
add("pool/max-1d", lambda: head(nn.Conv1d(1, 2, 2), nn.MaxPool1d(2), features=6), real(1, 7), classes(3))
add(
    "pool/adaptive-avg-1d",
    lambda: head(nn.Conv1d(1, 2, 2), nn.Tanh(), nn.AdaptiveAvgPool1d(4), features=8),
    real(1, 7),
    classes(3),
)

# ── normalisation ────────────────────────────────────────────────────────────────────────────────────────────────────

for _mode in (True, False):
    _when = "train" if _mode else "eval"
    add(
        f"norm/batch-1d-{_when}",
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)),
        real(4),
        classes(3),
        train=_mode,
    )
    add(
        f"norm/batch-2d-{_when}",
        lambda: head(
            nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2), features=8
        ),
        real(1, 4, 4),
        classes(3),
        train=_mode,
    )
    add(
        f"norm/instance-{_when}",
        lambda: head(
            nn.Conv2d(1, 3, 2), nn.InstanceNorm2d(3, affine=True, track_running_stats=True), nn.Tanh(), features=27
        ),
        real(1, 4, 4),
        classes(3),
        train=_mode,
    )
add(
    "norm/batch-no-affine",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
)
add(
    "norm/batch-no-running",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
    train=False,
)
add(
    "norm/batch-cumulative",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=None), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
)
add(
    "norm/layer",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
)
add(
    "norm/layer-two-dimensions",
    lambda: head(nn.Linear(4, 3), nn.LayerNorm((2, 3)), nn.Tanh(), features=6),
    real(2, 4),
    classes(3),
)
add(
    "norm/layer-no-affine",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 3)),
    real(4),
    classes(3),
)
add(
    "norm/group",
    lambda: head(nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.Tanh(), features=36),
    real(1, 4, 4),
    classes(3),
)
add(
    "norm/instance-1d",
    lambda: head(nn.Conv1d(1, 3, 2), nn.InstanceNorm1d(3), nn.Tanh(), features=12),
    real(1, 5),
    classes(3),
)
add("norm/rms", lambda: nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5), nn.Tanh(), nn.Linear(5, 3)), real(4), classes(3))
add(
    "norm/local-response",
    lambda: head(nn.Conv2d(1, 4, 2), nn.LocalResponseNorm(2), features=36),
    real(1, 4, 4),
    classes(3),
)
add("norm/l2", lambda: around(lambda h: F.normalize(h, dim=1)), real(4), classes(3))
add(
    "norm/by-hand",
    lambda: around(lambda h: (h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True)),
    real(4),
    classes(3),
)
add(
    "norm/by-hand-over-batch",
    lambda: around(lambda h: (h - h.mean(0)) / torch.sqrt(h.var(0, unbiased=False) + 1e-3)),
    real(4),
    classes(3),
)
add(
    "norm/dropout-off",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
    train=False,
)
add(
    "norm/dropout-zero",
    lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Tanh(), nn.Linear(5, 3)),
    real(4),
    classes(3),
)

# ── reductions, indexing, products of tensors ────────────────────────────────────────────────────────────────────────

OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "sum": (lambda h: h * h.sum(1, keepdim=True), 6),
    "mean": (lambda h: h * h.mean(), 6),
    "prod": (lambda h: h + h.prod(1, keepdim=True), 6),
    "var": (lambda h: h * h.var(1, keepdim=True), 6),
    "std": (lambda h: h / h.std(1, keepdim=True), 6),
    "norm": (lambda h: h / h.norm(dim=1, keepdim=True), 6),
    "vector-norm": (lambda h: h * torch.linalg.vector_norm(h, ord=3, dim=1, keepdim=True), 6),
    "logsumexp": (lambda h: h - h.logsumexp(1, keepdim=True), 6),
    "logcumsumexp": (lambda h: h.logcumsumexp(1), 6),
    "amax": (lambda h: h - h.amax(1, keepdim=True), 6),
    "max": (lambda h: h * h.max(1, keepdim=True).values, 6),
    "median": (lambda h: h * h.median(1, keepdim=True).values, 6),
    "cumsum": (lambda h: h.tanh().cumsum(1), 6),
    "cumprod": (lambda h: (1 + h.tanh() / 2).cumprod(1), 6),
    "sort": (lambda h: h.sort(1).values.tanh(), 6),
    "topk": (lambda h: h.topk(3, dim=1).values.tanh(), 3),
    "gather": (lambda h: h.tanh().gather(1, torch.tensor([[5, 0, 0]]).expand(h.shape[0], 3)), 3),
    "take-along-argmax": (lambda h: h * h.gather(1, h.argmax(1, keepdim=True)), 6),
    "index-select": (lambda h: h.tanh().index_select(1, torch.tensor([1, 1, 4])), 3),
    "advanced-indexing": (lambda h: h.tanh()[:, [0, 2, 2, 5]], 4),
    "boolean-mask": (
        lambda h: torch.where((h > 0).any(1, keepdim=True), h, h * 2)[:, torch.tensor([True, False] * 3)].tanh(),
        3,
    ),
    "slice": (lambda h: h.tanh()[:, 1::2] * h[:, ::2], 3),
    "ellipsis-none": (lambda h: (h[:, None, :] * h[..., None]).mean(2), 6),
    "scatter-add": (
        lambda h: torch.zeros_like(h).scatter_add(1, torch.tensor([[0, 0, 1, 2, 2, 5]]).expand_as(h), h.tanh()),
        6,
    ),
    "index-add": (
        lambda h: torch.zeros(h.shape[0], 3, dtype=h.dtype).index_add(1, torch.tensor([0, 1, 2, 0, 1, 2]), h.tanh()),
        3,
    ),
    "masked-fill": (lambda h: h.masked_fill(h > 0.5, -0.3).tanh(), 6),
    "triu": (lambda h: (h[:, :, None] * h[:, None, :]).triu(1).sum(2), 6),
    "diagonal": (lambda h: torch.diag_embed(h).matmul(h[:, :, None].tanh()).diagonal(dim1=1, dim2=2).expand(-1, 2), 2),
    "einsum": (lambda h: torch.einsum("bi,bj,ij->bj", h, h.tanh(), torch.ones(6, 6, dtype=h.dtype).tril()), 6),
    "einsum-batch": (lambda h: torch.einsum("bi,ci->bc", h, h).sum(1, keepdim=True) * h, 6),
    "bmm": (lambda h: torch.bmm(h.view(-1, 2, 3), h.view(-1, 3, 2).tanh()).flatten(1), 4),
    "baddbmm": (
        lambda h: torch.baddbmm(
            h.view(-1, 3, 2), h.view(-1, 3, 2), h.view(-1, 3, 2)[:, :2], beta=0.5, alpha=2.0
        ).flatten(1),
        6,
    ),
    "matmul-broadcast": (lambda h: (h.view(-1, 1, 2, 3) @ h.view(1, -1, 3, 2)).sum(1).flatten(1), 4),
    "matmul-vector": (lambda h: (h.view(-1, 2, 3) @ h.mean(0)[:3]).tanh(), 2),
    "mm-addmm": (lambda h: torch.addmm(h, h, h.t() @ h, beta=0.5, alpha=0.1), 6),
    "mv-dot": (lambda h: h * h[0].dot(h[-1]) + h.t().mv(h[:, 0]), 6),
    "outer": (lambda h: h * torch.outer(h[:, 0], h.sum(0)), 6),
    "addmv-addr": (lambda h: torch.addr(h, h[:, 1], h.sum(0)), 6),
    "kron-like": (lambda h: (h[:, :2, None] * h[:, None, 2:]).flatten(1).tanh(), 8),
    "cdist": (lambda h: torch.cdist(h, h + 1).mean(1, keepdim=True) * h, 6),
    "cosine": (lambda h: F.cosine_similarity(h[:, :3], h[:, 3:], dim=1)[:, None] * h, 6),
    "solve": (
        lambda h: torch.linalg.solve(torch.eye(2, dtype=h.dtype) * 4 + h[:, :4].reshape(-1, 2, 2), h[:, 4:, None])[
            ..., 0
        ],
        2,
    ),
    "chunk": (lambda h: (lambda a, b: a * b.sigmoid())(*h.chunk(2, 1)), 3),
    "split-cat": (lambda h: torch.cat([p.tanh() * (i + 1) for i, p in enumerate(h.split([1, 2, 3], 1))], 1), 6),
    "stack": (lambda h: torch.stack([h[:, :3], h[:, 3:].tanh()], 2).flatten(1), 6),
    "unbind": (lambda h: torch.stack([a * (i - 2) for i, a in enumerate(h.tanh().unbind(1))], 1), 6),
    "transpose": (lambda h: h.view(-1, 2, 3).transpose(1, 2).tanh().reshape(h.shape[0], 6), 6),
    "permute": (lambda h: h.view(-1, 1, 2, 3).permute(0, 3, 1, 2).tanh().flatten(1), 6),
    "expand": (lambda h: (h[:, :, None].expand(-1, -1, 2) * h[:, None, :2]).sum(2), 6),
    "expand-as": (lambda h: h * h.mean(1, keepdim=True).expand_as(h), 6),
    "repeat": (lambda h: h[:, :3].tanh().repeat(1, 2), 6),
    "repeat-interleave": (lambda h: h[:, :3].tanh().repeat_interleave(2, 1), 6),
    "tile": (lambda h: h[:, :2].tanh().tile(3), 6),
    "flip": (lambda h: h * h.flip(1), 6),
    "roll": (lambda h: h * h.roll(2, 1), 6),
    "unfold": (lambda h: h.tanh().unfold(1, 3, 1).sum(2), 4),
    "squeeze": (lambda h: h.unsqueeze(0).tanh().squeeze(0), 6),
    "narrow": (lambda h: h.narrow(1, 1, 4).tanh(), 4),
    "movedim": (lambda h: h.view(-1, 2, 3).movedim(1, 2).tanh().flatten(1), 6),
    "as-strided": (lambda h: h.contiguous().as_strided((h.shape[0], 3), (6, 2)).tanh(), 3),
    "interpolate": (lambda h: F.interpolate(h[:, None], size=4, mode="linear").tanh().flatten(1), 4),
    "pad": (lambda h: F.pad(h.tanh(), (1, 1), value=0.5), 8),
    "grid-sample": (
        lambda h: F.grid_sample(
            h.view(-1, 1, 2, 3),
            torch.linspace(-0.8, 0.7, 4, dtype=h.dtype).view(1, 1, 2, 2).expand(h.shape[0], 1, 2, 2),
            align_corners=False,
        ).flatten(1),
        2,
    ),
    "fft": (lambda h: torch.fft.rfft(h.tanh()).abs().square(), 4),
    "clone": (lambda h: h.tanh().t().contiguous().clone().t(), 6),
    "linear-no-bias": (lambda h: F.linear(h.tanh(), h[:2]), 2),
    "stop-gradient": (lambda h: h * h.detach(), 6),
    "no-grad-scale": (lambda h: h / _without_grad(lambda: h.abs().max() + 1), 6),
    "argmax-constant": (lambda h: h + F.one_hot(h.argmax(1), 6).to(h.dtype) * h, 6),
}


def _without_grad(function: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return function()


for _name, (_function, _width) in OPERATIONS.items():
    add(
        f"op/{_name}",
        lambda f=_function, w=_width: around(f, d_mid=w),
        real(4),
        classes(3),
        hessian=_name != "cdist",
        may_refuse=_name == "cdist",
    )


class _Swish(torch.autograd.Function):
    """A user's own differentiable function, its backward differentiable too."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return h * h.sigmoid()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        s = h.sigmoid()
        return grad * (s + h * s * (1 - s))


add("op/custom-function", lambda: around(_Swish.apply), real(4), classes(3), may_refuse=True)

# ── views and in-place updates of activations ────────────────────────────────────────────────────────────────────────


def _column_update(h: Tensor) -> Tensor:
    h[:, 0] += (2 * h[:, 1]).tanh()
    return h.tanh()


def _buffer_columns(h: Tensor) -> Tensor:
    out = torch.zeros(h.shape[0], 4, dtype=h.dtype)
    out[:, 0] = h[:, 0] * h[:, 1]
    for j in range(1, 4):
        out[:, j] = out[:, j - 1] * 0.5 + h[:, j].tanh()
    return out


def _view_mul(h: Tensor) -> Tensor:
    h.view(-1, 2, 3).mul_(torch.tensor([1.0, 2.0, -0.5], dtype=h.dtype))
    return h.tanh()


def _view_mul_gate(h: Tensor) -> Tensor:
    gate = h.sum(1, keepdim=True).sigmoid()
    out = h.clone()
    out.view(-1, 3, 2).mul_(gate[:, :, None])
    return out


def _view_before_write(h: Tensor) -> Tensor:
    h = h.clone()
    view = h[:, 2:4]
    h.mul_(2.0)
    h[:, 3].add_(h[:, 0])
    return torch.cat([view * view, h], 1)


def _write_through_view_of_view(h: Tensor) -> Tensor:
    h = h.clone()
    inner = h.view(-1, 2, 3).transpose(1, 2)[:, 1]
    inner.add_(h[:, :2].tanh())
    return h.tanh()


def _chunk_in_place(h: Tensor) -> Tensor:
    a, b = torch.tensor_split(h.tanh(), 2, dim=1)
    return torch.cat([a.mul(b), b], 1).mul_(0.5).add_(0.1)


def _overwritten(h: Tensor) -> Tensor:
    out = 2 * h
    keep = out.tanh()
    out = out + 1
    out.zero_()
    out[:, :3] = h[:, :3]
    return out * keep


def _fill_slice(h: Tensor) -> Tensor:
    h = h * 1.0
    h[:, 1] = 0.7
    h[0] *= 0.5
    return h.tanh()


def _masked_assignment(h: Tensor) -> Tensor:
    out = h * h
    out[h < 0] = 0.1
    out[:, [1, 4]] = h[:, [4, 1]].sin()
    return out


def _out_argument_buffer(h: Tensor) -> Tensor:
    rows = torch.empty_like(h)
    for i, row in enumerate(h.unbind(0)):
        rows[i].copy_(row.tanh() * (i + 1))
    return rows


def _accumulate(h: Tensor) -> Tensor:
    total = torch.zeros(h.shape[0], 2, dtype=h.dtype)
    for part in h.split(2, dim=1):
        total += part.tanh()
        total = total * part
    return total


IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "column-update": (_column_update, 6),
    "buffer-columns": (_buffer_columns, 4),
    "view-mul": (_view_mul, 6),
    "view-mul-gate": (_view_mul_gate, 6),
    "view-before-write": (_view_before_write, 8),
    "view-of-view": (_write_through_view_of_view, 6),
    "chunk": (_chunk_in_place, 6),
    "overwritten": (_overwritten, 6),
    "fill-slice": (_fill_slice, 6),
    "masked-assignment": (_masked_assignment, 6),
    "rows-of-empty": (_out_argument_buffer, 6),
    "accumulate": (_accumulate, 2),
    "add": (lambda h: h.sin().add_(h, alpha=0.5), 6),
    "sub-div": (lambda h: h.sin().sub_(h).div_(2.0), 6),
    "clamp": (lambda h: (h * 1.0).clamp_(min=-0.2), 6),
    "masked-fill": (lambda h: h.sin().masked_fill_(h > 0.3, 0.2), 6),
    "copy": (lambda h: torch.ones_like(h).copy_(h.tanh()), 6),
    "index-put-accumulate": (
        lambda h: h.sin().index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), h[0, :2] ** 2, accumulate=True),
        6,
    ),
    "index-add": (lambda h: h.sin().index_add_(1, torch.tensor([0, 0]), h[:, :2] ** 2), 6),
    "scatter": (lambda h: h.sin().scatter_(1, torch.tensor([[2]]).expand(h.shape[0], 1), h[:, :1] ** 2), 6),
    "swap-metadata": (lambda h: h.sin().unsqueeze_(1).squeeze_(1), 6),
    "relu-on-view": (lambda h: (F.relu_(h[:, :3]), h.sin())[1], 6),
}
for _name, (_function, _width) in IN_PLACE.items():
    add(f"in-place/{_name}", lambda f=_function, w=_width: around(f, d_mid=w), real(4), classes(3))
add(
    "in-place/relu-after-conv",
    lambda: head(nn.Conv2d(1, 2, 2), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 2), nn.ReLU(inplace=True), features=8),
    real(1, 4, 4),
    classes(3),
)
add(
    "in-place/residual",
    lambda: Flow(
        lambda m, x: m.c(F.relu(m.b(h := m.a(x).tanh()).add_(h), inplace=True)),
        a=nn.Linear(4, 5),
        b=nn.Linear(5, 5),
        c=nn.Linear(5, 3),
    ),
    real(4),
    classes(3),
)


def _writes_into_input(m, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = m.a(x.clone())[:, 0]
    return m.b(x).tanh()


add(
    "in-place/into-input-copy",
    lambda: Flow(_writes_into_input, a=nn.Linear(4, 2), b=nn.Linear(4, 3)),
    real(4),
    classes(3),
)

# ── structure: residual, tied, control flow, checkpointing ───────────────────────────────────────────────────────────


class Residual(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


add(
    "net/residual",
    lambda: nn.Sequential(
        nn.Linear(4, 5),
        Residual(nn.Sequential(nn.Tanh(), nn.Linear(5, 5))),
        Residual(nn.Sequential(nn.ReLU(), nn.Linear(5, 5))),
        nn.Linear(5, 3),
    ),
    real(4),
    classes(3),
)
add(
    "net/resnet",
    lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        Residual(
            nn.Sequential(
                nn.Conv2d(2, 2, 3, padding=1, bias=False),
                nn.BatchNorm2d(2),
                nn.ReLU(inplace=True),
                nn.Conv2d(2, 2, 3, padding=1, bias=False),
                nn.BatchNorm2d(2),
            )
        ),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    ),
    real(1, 4, 4),
    classes(3),
)


class Tied(nn.Module):
    """Embedding and output layer share one matrix."""

    def __init__(self, k: int = 5, d: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(k, d)
        self.middle = nn.Linear(d, d)
        self.output = nn.Linear(d, k, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.middle(self.embedding(x)).tanh().mean(1))


add("net/tied-embedding", Tied, tokens(5, 4), classes(5))
add(
    "net/shared-layer",
    lambda: Flow(lambda m, x: m.out(m.a(m.a(x).tanh()).tanh()), a=nn.Linear(4, 4), out=nn.Linear(4, 3)),
    real(4),
    classes(3),
)
add(
    "net/tied-transposed",
    lambda: Flow(lambda m, x: F.linear(F.linear(x, m.w).tanh(), m.w.t()), w=parameter(3, 4)),
    real(4),
    real(4),
    mse,
)
add(
    "net/weight-used-directly",
    lambda: Flow(lambda m, x: m.a(x) * m.a.weight.pow(2).sum().sqrt() + m.a.weight.sum(1), a=nn.Linear(4, 3)),
    real(4),
    classes(3),
)
add(
    "net/hypernetwork",
    lambda: Flow(lambda m, x: torch.einsum("bi,bij->bj", x, m.a(x).tanh().view(-1, 4, 3)), a=nn.Linear(4, 12)),
    real(4),
    classes(3),
)


def _branches(m, x: Tensor) -> Tensor:
    h = m.a(x)
    h = m.b(h).tanh() if h.sum() > 0 else m.c(h).sigmoid()
    for _ in range(1 + int(h.abs().sum().item()) % 3):
        h = m.b(h).tanh()
    return m.out(h)


add(
    "net/control-flow",
    lambda: Flow(_branches, a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4), out=nn.Linear(4, 3)),
    real(4),
    classes(3),
)
add(
    "net/checkpoint",
    lambda: Flow(
        lambda m, x: m.out(checkpoint(m.block, m.a(x), use_reentrant=False)),
        a=nn.Linear(4, 4),
        block=nn.Sequential(nn.Tanh(), nn.Linear(4, 4), nn.GELU()),
        out=nn.Linear(4, 3),
    ),
    real(4),
    classes(3),
)
add(
    "net/checkpoint-twice",
    lambda: Flow(
        lambda m, x: m.out(checkpoint(m.block, checkpoint(m.block, m.a(x), use_reentrant=False), use_reentrant=False)),
        a=nn.Linear(4, 4),
        block=nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(inplace=True)),
        out=nn.Linear(4, 3),
    ),
    real(4),
    classes(3),
)

# ── embeddings, attention, recurrent networks ────────────────────────────────────────────────────────────────────────

add("seq/embedding", lambda: head(nn.Embedding(5, 3), nn.Tanh(), features=12), tokens(5, 4), classes(3))
add(
    "seq/embedding-padding",
    lambda: head(nn.Embedding(5, 3, padding_idx=0), nn.Tanh(), features=12),
    tokens(5, 4),
    classes(3),
)
add(
    "seq/embedding-positions",
    lambda: Flow(
        lambda m, x: m.out((m.e(x) + m.p(torch.arange(x.shape[1]))).tanh().flatten(1)),
        e=nn.Embedding(5, 3),
        p=nn.Embedding(4, 3),
        out=nn.Linear(12, 3),
    ),
    tokens(5, 4),
    classes(3),
)


def _attention(mask: str | None, heads: int = 2) -> Callable[..., Tensor]:
    def forward(m, x: Tensor) -> Tensor:
        n, length, d = x.shape
        q, k, v = (t.view(n, length, heads, d // heads).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
        options: dict = {}
        if mask == "causal":
            options["is_causal"] = True
        elif mask == "float":
            options["attn_mask"] = torch.linspace(-1, 1, length * length, dtype=x.dtype).view(length, length)
        elif mask == "bool":
            options["attn_mask"] = torch.ones(length, length, dtype=torch.bool).tril(1)
        elif mask == "learned":
            options["attn_mask"] = m.bias
        elif mask == "scale":
            options["scale"] = 0.3
        h = F.scaled_dot_product_attention(q, k, v, **options)
        return m.out(h.transpose(1, 2).reshape(n, length, d)).mean(1)

    return forward


for _mask in (None, "causal", "float", "bool", "learned", "scale"):
    add(
        f"attention/sdpa-{_mask or 'plain'}",
        lambda mask=_mask: Flow(
            _attention(mask),
            qkv=nn.Linear(4, 12),
            out=nn.Linear(4, 3),
            **({"bias": parameter(3, 3)} if mask == "learned" else {}),
        ),
        real(3, 4),
        classes(3),
    )
add(
    "attention/sdpa-cross",
    lambda: Flow(
        lambda m, x, y: F.scaled_dot_product_attention(m.q(x), m.k(y), m.v(y)).flatten(1),
        q=nn.Linear(3, 4),
        k=nn.Linear(2, 4),
        v=nn.Linear(2, 3),
    ),
    lambda n: (real(2, 3)(n), real(3, 2)(n)),
    classes(6),
)
add(
    "attention/by-hand",
    lambda: Flow(
        lambda m, x: m.out((m.q(x) @ m.k(x).transpose(1, 2) / 2).softmax(-1) @ m.v(x)).mean(1),
        q=nn.Linear(4, 4),
        k=nn.Linear(4, 4),
        v=nn.Linear(4, 4),
        out=nn.Linear(4, 3),
    ),
    real(3, 4),
    classes(3),
)


def _multihead(**options) -> Callable[..., Tensor]:
    def forward(m, x: Tensor, padding: Tensor | None = None) -> Tensor:
        h = m.inner(x)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if options.get("causal") else None
        y, weights = m.attention(h, h, h, key_padding_mask=padding, attn_mask=mask, need_weights=options["weights"])
        y = y.mean(1)
        return m.out(y if weights is None else y * weights.square().sum((1, 2))[:, None])

    return forward


def _padded(n: int) -> tuple[Tensor, Tensor]:
    padding = torch.zeros(n, 3, dtype=torch.bool)
    padding[::2, 2] = True
    return real(3, 4)(n), padding


for _weights in (True, False):
    for _kind in ("plain", "causal", "padding"):
        add(
            f"attention/multihead-{'weights' if _weights else 'fast'}-{_kind}",
            lambda w=_weights, c=_kind == "causal": Flow(
                _multihead(weights=w, causal=c),
                inner=nn.Linear(4, 4),
                attention=nn.MultiheadAttention(4, 2, batch_first=True),
                out=nn.Linear(4, 3),
            ),
            _padded if _kind == "padding" else real(3, 4),
            classes(3),
        )
add(
    "attention/multihead-cross",
    lambda: Flow(
        lambda m, x, y: m.out(m.attention(x, y, y, need_weights=False)[0].mean(1)),
        attention=nn.MultiheadAttention(4, 2, kdim=3, vdim=2 + 1, batch_first=True, add_bias_kv=True),
        out=nn.Linear(4, 3),
    ),
    lambda n: (real(2, 4)(n), real(3, 3)(n)),
    classes(3),
)
for _first in (True, False):
    add(
        f"attention/encoder-layer-{'pre' if _first else 'post'}",
        lambda f=_first: Flow(
            lambda m, x: m.out(m.layer(x).mean(1)),
            layer=nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, activation="gelu", batch_first=True, norm_first=f),
            out=nn.Linear(4, 3),
        ),
        real(3, 4),
        classes(3),
    )
add(
    "attention/encoder-layer-eval",
    lambda: Flow(
        lambda m, x: m.out(m.layer(x).mean(1)),
        layer=nn.TransformerEncoderLayer(4, 2, 5, dropout=0.1, batch_first=True),
        out=nn.Linear(4, 3),
    ),
    real(3, 4),
    classes(3),
    train=False,
)
add(
    "attention/language-model",
    lambda: Flow(
        lambda m, x: m.out(
            m.layer(
                m.e(x),
                src_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=m.e.weight.dtype),
                is_causal=True,
            )
        ).transpose(1, 2),
        e=nn.Embedding(5, 4),
        layer=nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True),
        out=nn.Linear(4, 5),
    ),
    tokens(5, 3),
    classes(5, 3),
)


def _recurrent(kind: type[nn.Module], **options) -> Callable[[], nn.Module]:
    width = 2 * (2 if options.get("bidirectional") else 1)
    return lambda: Flow(
        lambda m, x: m.out(m.rnn(x)[0].mean(1)), rnn=kind(2, 2, batch_first=True, **options), out=nn.Linear(width, 3)
    )


add("rnn/plain", _recurrent(nn.RNN), real(3, 2), classes(3))
add("rnn/gru", _recurrent(nn.GRU), real(3, 2), classes(3))
add("rnn/gru-two-layers", _recurrent(nn.GRU, num_layers=2), real(3, 2), classes(3))
add("rnn/gru-bidirectional", _recurrent(nn.GRU, bidirectional=True), real(3, 2), classes(3))
add("rnn/lstm", _recurrent(nn.LSTM), real(3, 2), classes(3))
add("rnn/lstm-two-layers", _recurrent(nn.LSTM, num_layers=2), real(3, 2), classes(3))
add("rnn/lstm-bidirectional", _recurrent(nn.LSTM, bidirectional=True), real(3, 2), classes(3))
add(
    "rnn/lstm-last-state",
    lambda: Flow(
        lambda m, x: m.out(torch.cat([s[-1] for s in m.rnn(m.a(x))[1]], 1)),
        a=nn.Linear(2, 2),
        rnn=nn.LSTM(2, 2, batch_first=True),
        out=nn.Linear(4, 3),
    ),
    real(3, 2),
    classes(3),
)
add(
    "rnn/lstm-learned-state",
    lambda: Flow(
        lambda m, x: m.out(
            m.rnn(x, (m.h.expand(1, x.shape[0], 2).contiguous(), m.c.expand(1, x.shape[0], 2).contiguous()))[0][:, -1]
        ),
        h=parameter(1, 1, 2),
        c=parameter(1, 1, 2),
        rnn=nn.LSTM(2, 2, batch_first=True),
        out=nn.Linear(2, 3),
    ),
    real(3, 2),
    classes(3),
)


def _cells(m, x: Tensor) -> Tensor:
    state = (x.new_zeros(x.shape[0], 2), x.new_zeros(x.shape[0], 2))
    for step in x.unbind(1):
        state = m.cell(step, state)
    return m.out(torch.cat(state, 1))


add("rnn/lstm-cell", lambda: Flow(_cells, cell=nn.LSTMCell(2, 2), out=nn.Linear(4, 3)), real(3, 2), classes(3))
add(
    "rnn/gru-cell",
    lambda: Flow(lambda m, x: m.out(m.cell(x[:, 1], m.cell(x[:, 0]))), cell=nn.GRUCell(2, 2), out=nn.Linear(2, 3)),
    real(2, 2),
    classes(3),
)

# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mlp(k: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, k))


def _segmenter(k: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, k, 1))


def _weights() -> Tensor:
    return torch.tensor([0.5, 2.0, 1.2])


def _cross_entropy(**options) -> Callable[[], nn.Module]:
    return lambda: nn.CrossEntropyLoss(**{k: v() if callable(v) else v for k, v in options.items()})


CROSS_ENTROPY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "plain": (_cross_entropy(), "index"),
    "weights": (_cross_entropy(weight=_weights), "index"),
    "ignore": (_cross_entropy(), "ignored"),
    "ignore-a-class": (_cross_entropy(ignore_index=1), "index"),
    "smoothing": (_cross_entropy(label_smoothing=0.2), "index"),
    "weights-ignore": (_cross_entropy(weight=_weights), "ignored"),
    "weights-smoothing": (_cross_entropy(weight=_weights, label_smoothing=0.2), "index"),
    "ignore-smoothing": (_cross_entropy(label_smoothing=0.2), "ignored"),
    "all": (_cross_entropy(weight=_weights, label_smoothing=0.2), "ignored"),
    "probabilities": (_cross_entropy(), "probabilities"),
    "probabilities-weights": (_cross_entropy(weight=_weights), "probabilities"),
    "probabilities-smoothing": (_cross_entropy(label_smoothing=0.2), "probabilities"),
    "probabilities-weights-smoothing": (_cross_entropy(weight=_weights, label_smoothing=0.2), "probabilities"),
}
for _name, (_loss, _kind) in CROSS_ENTROPY.items():
    for _dims, _model, _x, _shape in (("", _mlp, real(4), ()), ("-image", _segmenter, real(1, 2, 2), (2, 2))):
        _t = {
            "index": classes(3, *_shape),
            "ignored": some_ignored(3, -100, *_shape),
            "probabilities": probabilities(3, *_shape),
        }[_kind]
        add(f"loss/cross-entropy-{_name}{_dims}", _model, _x, _t, _loss)

add("loss/mse", _mlp, real(4), real(3), mse)
add("loss/mse-image", _segmenter, real(1, 2, 2), real(3, 2, 2), mse)
add("loss/bce", _mlp, real(4), zero_one(3), nn.BCEWithLogitsLoss)
add("loss/bce-soft-targets", _mlp, real(4), lambda n: torch.rand(n, 3, dtype=F64), nn.BCEWithLogitsLoss)
add("loss/bce-weight", _mlp, real(4), zero_one(3), lambda: nn.BCEWithLogitsLoss(weight=_weights()))
add("loss/bce-pos-weight", _mlp, real(4), zero_one(3), lambda: nn.BCEWithLogitsLoss(pos_weight=_weights()))
add(
    "loss/bce-both-weights-image",
    _segmenter,
    real(1, 2, 2),
    zero_one(3, 2, 2),
    lambda: nn.BCEWithLogitsLoss(weight=_weights()[:, None, None], pos_weight=_weights().flip(0)[:, None, None]),
)
add("loss/smooth-l1", _mlp, real(4), real(3), lambda: nn.SmoothL1Loss(beta=0.7))
add("loss/huber", _mlp, real(4), real(3), lambda: nn.HuberLoss(delta=0.7))
add("loss/poisson", _mlp, real(4), positive(3), nn.PoissonNLLLoss)
add(
    "loss/poisson-full",
    lambda: nn.Sequential(_mlp(), nn.Softplus()),
    real(4),
    lambda n: torch.randint(1, 5, (n, 3)).double(),
    lambda: nn.PoissonNLLLoss(log_input=False, full=True),
)
add(
    "loss/kl",
    lambda: nn.Sequential(_mlp(), nn.LogSoftmax(1)),
    real(4),
    probabilities(3),
    lambda: nn.KLDivLoss(reduction="batchmean"),
)
add("loss/nll", lambda: nn.Sequential(_mlp(), nn.LogSoftmax(1)), real(4), classes(3), nn.NLLLoss)
add("loss/soft-margin", _mlp, real(4), lambda n: 2 * zero_one(3)(n) - 1, nn.SoftMarginLoss)
add("loss/function", _mlp, real(4), classes(3), lambda: F.cross_entropy)
add(
    "loss/lambda", _mlp, real(4), real(3), lambda: lambda y, t: ((y - t) ** 4).sum(1).mean() + (y * y.roll(1, 1)).mean()
)
add("loss/lambda-sum-of-squares", _mlp, real(4), real(3), lambda: lambda y, t: ((y - t) ** 2).sum(1).mean())


class Focal(nn.Module):
    """A loss of the user's own, as a module with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gamma", torch.tensor(2.0))

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        logp = y.log_softmax(1).gather(1, t[:, None])[:, 0]
        return (-((1 - logp.exp()) ** self.gamma) * logp).mean()


add("loss/module", _mlp, real(4), classes(3), Focal)
add(
    "loss/couples-examples",
    _mlp,
    real(4),
    real(3),
    lambda: lambda y, t: (y - t).square().mean() + (y.mean(0) ** 2).sum(),
)
add("loss/linear", _mlp, real(4), real(3), lambda: lambda y, t: (y * t).sum(1).mean())


def names(prefix: str = "") -> list[str]:
    return [name for name in CASES if name.startswith(prefix)]


def with_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad)
