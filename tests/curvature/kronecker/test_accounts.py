"""Whether a layer's calls account for its gradient: what counts as a use outside of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import quadric
from oracles import assert_close

F64 = torch.float64


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)


class Plain(Base):
    def forward(self, x):
        return self.b(self.a(x).tanh())


class Keyword(Base):
    def forward(self, x):
        return self.b(input=self.a(input=x).tanh())


class Checkpointed(Base):
    def forward(self, x):
        return self.b(checkpoint(self.a, x, use_reentrant=False).tanh())


class Penalised(Base):
    def forward(self, x):
        return self.b(self.a(x).tanh()) + self.a.weight.square().mean()


class Functional(Base):
    def forward(self, x):
        return self.b(F.linear(x, self.a.weight) + self.a(x))


class FedItsOwnWeights(Base):
    def forward(self, x):
        return self.b(self.a(x + self.a.weight.mean(0)).tanh())


class FedTheWeightsOfAnother(Base):
    def forward(self, x):
        return self.b(self.a(x).tanh() * self.a.weight.mean(0))


class Detached(Base):
    def forward(self, x):
        return self.b(self.a(x).tanh() * self.a.weight.detach().mean(0))


class Discarded(Base):
    def forward(self, x):
        self.a(2 * x)
        return self.b(self.a(x).tanh())


class Doubled(nn.Linear):
    def forward(self, x):
        return F.linear(x, 2 * self.weight, self.bias)


class Same(nn.Linear):
    def forward(self, x):
        return super().forward(x)


def forms(model):
    data = torch.randn(6, 4, dtype=F64), torch.randint(3, (6,))
    coverage = quadric.KFAC(quadric.Objective(model.double(), nn.CrossEntropyLoss()), data).coverage
    return coverage.of("a.weight").form, coverage.of("b.weight").form


@pytest.mark.parametrize("model", [Plain, Keyword, Checkpointed, Detached, Discarded])
def test_all_uses_in_calls(model):
    assert forms(model()) == ("kronecker", "kronecker")


@pytest.mark.parametrize("model", [Penalised, Functional, FedItsOwnWeights, FedTheWeightsOfAnother])
def test_uses_outside_of_calls_are_found(model):
    assert forms(model()) == ("diagonal", "kronecker")


@pytest.mark.parametrize(("kind", "form"), [(Same, "kronecker"), (Doubled, "diagonal")])
def test_a_forward_of_ones_own_is_judged_by_its_gradient(kind, form):
    model = Plain()
    model.a = kind(4, 4)
    assert forms(model) == (form, "kronecker")


@pytest.mark.parametrize(("factor", "form"), [(1, "kronecker"), (3, "diagonal")])
def test_hooks_that_change_an_output_are_judged_by_the_gradient(factor, form):
    model = Plain()
    model.a.register_forward_hook(lambda module, args, out: factor * out)
    assert forms(model) == (form, "kronecker")


def test_an_input_changed_in_place_is_refused():
    class Changing(Base):
        def forward(self, x):
            h = 2 * x
            y = self.a(h)
            h.add_(1)
            return self.b(y.tanh())

    with pytest.raises(ValueError, match=r"input of module 'a' was changed in place after the call"):
        forms(Changing())


def test_inputs_by_keyword_count_as_inputs():
    model, data = Keyword().double(), (torch.randn(6, 4, dtype=F64), torch.randint(3, (6,)))
    plain = Plain().double()
    plain.load_state_dict(model.state_dict())
    a, b = (quadric.KFAC(quadric.Objective(m, nn.CrossEntropyLoss()), data).to_dense() for m in (model, plain))
    assert_close(a, b, 1e-15)
