"""The faults can be put into the current source, and the copy is what is judged."""

from __future__ import annotations

import os
import subprocess

import pytest

from .mutants import MUTANTS
from .run import ROOT, copy_to, put_in

SOURCE = ROOT / "src" / "provider_registration"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_source_still_says_what_is_replaced_and_the_tests_are_there(mutant):
    assert (SOURCE / mutant.file).read_text().count(mutant.old) == mutant.times
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text()


def test_whatever_its_environment_a_process_runs_the_mutated_code(tmp_path):
    python = copy_to(tmp_path)
    [mutant] = [one for one in MUTANTS if one.old == "OVERLAP_SECONDS = 60 "]
    program = "from provider_registration.auth import revocations; print(revocations.OVERLAP_SECONDS)"

    with put_in(mutant, tmp_path):
        for environment in ({}, os.environ):
            said = subprocess.run([python, "-c", program], env=environment, check=True, capture_output=True, text=True)
            assert said.stdout == "0\n"
        with pytest.raises(LookupError), put_in(mutant, tmp_path):
            pass
    script = (python.parent / "provider-registration").read_text()
    assert script.startswith(f"#!{python}\n")
    assert subprocess.run([python.parent / "provider-registration", "--version"], check=False, env={}).returncode == 0
