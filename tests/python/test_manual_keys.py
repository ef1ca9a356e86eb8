"""Every key of the manuals is read, fixed, upgraded or refused by name; none is taken for a typing error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from deepmd.config.built import BUILT
from deepmd.config.doc import doc
from reference.manual_keys import LIST, PAGE, STATES, of_schema, rows, state


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


UPGRADED = r"model/type_embedding/|\[se_a_ebd_v2\]/"  # keys of sections that are brought to another form
TAGS = r"/type$|^learning_rate\[exp\]/(start|stop)_lr$|^model/finetune_head$"  # forms; keys of all forms


def test_the_documentation_of_the_command_has_every_key_that_is_built(table):
    """Sections of a plain model stand under its type, which is the default."""
    documented = set()
    for several in (False, True):
        for path, _ in of_schema(json.loads(doc("json", several))):
            documented |= {path, re.sub(r"^model/(descriptor|fitting_net)", r"model[standard]/\1", path)}
    built = {path for path, _, found, _ in table if found == "built" and not re.search(f"{UPGRADED}|{TAGS}", path)}
    unknown = {path for path in built if path not in documented}
    assert {path for path in unknown if re.sub("^model/", "model[standard]/", path) not in documented} == set()


DOCUMENTS = Path(PAGE).parent
TABLES = {
    "descriptors.md": BUILT["model/descriptor/type"], "models.md": BUILT["model/type"],
    "fittings.md": BUILT["model/fitting_net/type"] + BUILT["loss/type"],
}  # fmt: skip


@pytest.mark.parametrize("document", TABLES)
def test_the_tables_of_the_documents_have_a_row_for_every_kind(document):
    """Two rows for descriptors and fitting nets, which have two tables; examples that are named are there."""
    text = (DOCUMENTS / document).read_text()
    rows_of = [line for line in text.splitlines() if line.startswith("| ")]
    for kind in TABLES[document]:
        found = [line for line in rows_of if f"`{kind}`" in line.split("|")[1]]
        assert len(found) >= (2 if document == "descriptors.md" else 1), kind
    for target in re.findall(r"\]\((\.\./examples/[^)]+)\)", text):
        assert (DOCUMENTS / target).exists(), target
