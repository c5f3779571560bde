"""The command in this process."""

import sys

import pytest

from quadric.cli import app


@pytest.fixture
def quadric(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["quadric", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, " ".join(output.err.replace("│", " ").split())

    return call
