"""What several files of these tests ask for by name."""

import pytest


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's program as it is, since to trace it takes longer than to run it; test_program.py has it traced."""
    monkeypatch.setattr("lai.program._TRACED", {})  # neither takes a program from the other
    monkeypatch.setattr("torch.fx.experimental.proxy_tensor.make_fx", lambda program: lambda *arguments: program)
