"""Every key of the manuals is read, fixed, upgraded or refused by name; none is taken for a typing error."""

from __future__ import annotations

import pytest
from reference.manual_keys import LIST, PAGE, STATES, rows, state


@pytest.fixture(scope="module")
def table():
    return rows()


def test_no_key_of_the_manuals_is_unknown(table):
    assert len(table) > 800
    assert [row[0] for row in table if row[2] == "UNKNOWN"] == []
    assert {row[2] for row in table} == set(STATES) - {"UNKNOWN"}


def test_the_page_has_a_line_for_every_key():
    text, section = PAGE.read_text(), ""
    found = set()
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:].strip("`")
        elif line.startswith("- ") and section:
            found |= {(section, name) for name in line.split("`")[1::2]}
    for line in LIST.read_text().splitlines():
        where, _, name = line.split("\t")[0].rpartition("/")
        assert (where or "the input itself", name) in found, f"{where}/{name}: run tests/reference/manual_keys.py"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("model[standard]/descriptor[se_e2_a]/rcutt", 1.0, "UNKNOWN"),
        ("model[standard]/descriptor[dpa4]/sel", 8, "refused by name"),
        ("model[standard]/descriptor[se_atten]/attn_mask", False, "one value"),
        ("training/zero_stage", 0, "one value"),
        ("model[standard]/descriptor[dpa2]/repinit_nsel", 30, "upgraded"),
        ("model[standard]/descriptor[se_e2_a]/n_axis_neuron", 4, "built"),
    ],
)
def test_the_walk_can_tell_states_apart(path, value, expected):
    assert state(path, value)[0] == expected
