"""The space of a search as it is typed."""

import re
from itertools import islice

import pytest

from quadric.bench.search.space import Choice, Range, extremes, grid, parse, primes, radical_inverse, spread_out


def test_every_form():
    assert parse("lr=0.1:1, damping=log:1e-4:1,rank=int:5:50,structure=full|diagonal,adapt=false") == [
        Range("lr", 0.1, 1.0),
        Range("damping", 1e-4, 1.0, log=True),
        Range("rank", 5.0, 50.0, whole=True),
        Choice("structure", ("full", "diagonal")),
        Choice("adapt", (False,)),
    ]


def test_texts_are_read_back():
    space = parse("lr=0.123456789:1,damping=log:1e-4:1,rank=int:5:50,structure=full|diagonal,x=none|1")
    assert parse(", ".join(f"{each.name}={each}" for each in space)) == space


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has nothing to search. Expected something like lr=0.1:1"),
        (" , ", "has nothing to search"),
        ("curvature=hessian", "has nothing to search"),
        ("lr", "Expected name=range or name=choices, got 'lr'"),
        ("lr=", "Expected name=range"),
        ("lr=1:0.1", "lr: expected a range from low to high, got 1 to 0.1."),
        ("lr=1:1", "from low to high"),
        ("lr=log:0:1", "lr: a logarithmic range needs positive ends, got 0 to 1; leave log: out."),
        ("lr=log:-1:1", "positive ends"),
        ("lr=a:1", "lr: expected low:high, log:low:high or int:low:high with numbers, got 'a:1'."),
        ("lr=exp:1:2", "got 'exp:1:2'"),
        ("lr=1:2:3:4", "got '1:2:3:4'"),
        ("lr=0:inf", "with numbers"),
        ("rank=int:1.5:3", "rank: expected whole numbers"),
        ("a=x|x", "a: expected different choices"),
        ("lr=0:1,lr=1:2", "lr is in the space twice"),
    ],
)
def test_what_is_no_space(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text)


def test_points_of_a_grid():
    space = parse("lr=log:1e-2:1,rank=int:1:2,kind=a|b")
    assert space[0].points(3) == [0.01, 0.1, 1.0]
    assert space[1].points(5) == [1, 2]
    assert Range("x", 0.0, 1.0).points(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    settings = grid(space, 3)
    assert len(settings) == 3 * 2 * 2
    assert {"lr": 0.1, "rank": 2, "kind": "b"} in settings


def test_extremes_have_every_end_and_choice():
    assert extremes(parse("lr=0.1:1,kind=a|b|c")) == [
        {"lr": 0.1, "kind": "a"},
        {"lr": 1.0, "kind": "a"},
        {"lr": 0.1, "kind": "b"},
        {"lr": 0.1, "kind": "c"},
    ]


def test_numbers_people_can_copy():
    assert Range("x", 0.0, 1.0).rounded(0.123456) == 0.1235
    assert Range("x", 0.1, 0.12345).rounded(0.12345) == 0.12345
    assert Range("x", 1.0, 99999.0, whole=True).rounded(12345) == 12345
    assert Choice("x", (0.123456, None)).rounded(0.123456) == 0.123456


def test_where_a_value_lies():
    assert Range("x", 1e-4, 1.0, log=True).share(1e-2) == pytest.approx(0.5)
    assert Range("x", 2.0, 4.0).share(3.0) == 0.5


def test_a_sequence_fills_the_space_evenly():
    space = parse("lr=log:1e-4:1,structure=full|diagonal|kronecker,rank=int:1:4,curvature=ggn")
    found = [spread_out(space, index) for index in range(30)]
    assert [each["lr"] for each in found[:3]] == pytest.approx([1e-2, 1e-3, 1e-1])
    assert [each["structure"] for each in found[:3]] == ["diagonal", "kronecker", "full"]
    assert {each["curvature"] for each in found} == {"ggn"}
    for name, values in (("structure", 3), ("rank", 4)):
        chosen = [each[name] for each in found]
        assert len(set(chosen)) == values
        assert max(map(chosen.count, chosen)) - min(map(chosen.count, chosen)) <= 2
    assert all(type(each["rank"]) is int for each in found)


def test_radical_inverses():
    assert [radical_inverse(number, 2) for number in (1, 2, 3, 6)] == [1 / 2, 1 / 4, 3 / 4, 3 / 8]
    assert radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)
    assert list(islice(primes(), 5)) == [2, 3, 5, 7, 11]
