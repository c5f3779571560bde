"""References to the user's code: what they stand for, and what is said where they stand for nothing."""

import sys

import pytest

from quadric.problems.own.reference import call, find


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package `ownpackage` with a module `code` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "ownpackage").mkdir()
    (tmp_path / "ownpackage" / "__init__.py").write_text("")
    (tmp_path / "ownpackage" / "code.py").write_text("class Maker:\n    def make(): return 3\nanswer = 42\n")
    (tmp_path / "ownpackage" / "lacking.py").write_text("import not_there_at_all\n")
    (tmp_path / "ownpackage" / "broken.py").write_text("answer = 1 / 0\n")
    yield
    for name in [name for name in sys.modules if name.startswith("ownpackage")]:
        del sys.modules[name]


@pytest.mark.usefixtures("own")
def test_a_module_in_the_working_directory_is_found():
    assert find("ownpackage.code:answer") == 42
    assert find("ownpackage.code:Maker.make")() == 3


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ownpackage.code", r"Expected pkg\.module:name, such as train:make_model, got 'ownpackage\.code'"),
        ("ownpackage.code:anwser", r"ownpackage\.code has no 'anwser' \(.*\)\. Did you mean answer"),
        ("ownpackage.code:Maker.mkae", r"ownpackage\.code\.Maker has no 'mkae'.*Did you mean make\?"),
        ("ownpackage.cod:answer", r"There is no module ownpackage\.cod .*Did you mean code\?"),
        (
            "ownpackge.code:answer",
            r"There is no module ownpackge .*neither installed nor in .*Did you mean ownpackage",
        ),
        ("ownpackage.lacking:answer", r"ownpackage\.lacking .* imports not_there_at_all, which is not installed"),
        (
            "ownpackage.broken:answer",
            r"cannot be imported: ZeroDivisionError: division by zero \(.*broken\.py, line 1\)",
        ),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest(reference, message):
    with pytest.raises(ValueError, match=message):
        find(reference)


def test_errors_of_the_users_code_have_their_kind_and_place():
    with pytest.raises(RuntimeError, match=r"^train:make failed: KeyError: 'a' \(.*test_reference\.py, line \d+\)$"):
        call("train:make", lambda: {}["a"])
    with pytest.raises(RuntimeError, match=r"^train:make failed: TypeError: .*missing 1 required .*'x'$"):
        call("train:make", needs_an_argument)


def needs_an_argument(x):
    return x
