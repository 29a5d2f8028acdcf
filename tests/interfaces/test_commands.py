"""A program of this package that fails says why: by its own last words, or by what ended it."""

from __future__ import annotations

import sys

import pytest

from colapipe.errors import ParticipantError
from colapipe.interfaces.commands import OwnCommand


def command(code: str) -> OwnCommand:
    """Return a node of a Python program."""
    return OwnCommand(command=f'{sys.executable} -c "{code}"')


def test_the_last_words_of_a_program_are_passed_on():
    code = "import sys; print('first', file=sys.stderr); sys.exit('no brain was found')"
    with pytest.raises(ParticipantError, match=r"^no brain was found$"):
        command(code).run()


def test_a_program_that_is_killed_is_named_with_the_signal():
    with pytest.raises(ParticipantError, match="was ended by SIGKILL, most likely for want of"):
        command("import os; print('x'); os.kill(os.getpid(), 9)").run()


def test_a_program_without_words_is_named_with_its_exit_code():
    with pytest.raises(ParticipantError, match="ended with exit code 3"):
        command("raise SystemExit(3)").run()


def test_a_program_that_succeeds_may_say_what_it_likes():
    result = command("import sys; print('careful', file=sys.stderr)").run()
    assert result.runtime.returncode == 0
