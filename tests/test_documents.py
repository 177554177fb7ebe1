"""What is written as JSON is what its schema says: the schema that comes with the package and is printed."""

import json
import subprocess
import sys

import jsonschema
import pytest
from attrs import evolve
from test_report import CUT, RUNS, trip

from sagadsl.report import SCHEMA, json_schema, run_document, runs_document


def judge(kind, *, is_strict=True):
    """Return what judges a kind of document; a strict one refuses what the schema does not tell."""
    schema = json_schema()
    if is_strict:
        for definition in schema["$defs"].values():
            if "properties" in definition and definition is not schema["$defs"]["run_summary"]:
                definition["unevaluatedProperties"] = False
    schema["$ref"] = f"#/$defs/{kind}"
    del schema["oneOf"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def as_json(document):
    return json.loads(json.dumps(document, allow_nan=False))


@pytest.mark.parametrize("name", RUNS)
def test_the_document_of_a_run_is_what_the_schema_says(name):
    document = as_json(run_document(RUNS[name][0]))
    judge("run_document").validate(document)
    assert document["schema"] == SCHEMA


def test_the_document_of_a_list_is_what_the_schema_says():
    runs = [run for run, _ in RUNS.values()]
    document = as_json(runs_document(runs, "/here/sagadsl.db"))
    judge("runs_document").validate(document)
    assert "steps" not in document["runs"][0]


def test_what_the_schema_does_not_tell_is_refused():
    """The judge can say no: to a field too many, one too few, a word that is none, a time without a zone."""
    document = as_json(run_document(trip("open", CUT)))
    run, step = document["run"], document["run"]["steps"][0]
    mutants = [
        {**document, "schema": 2},
        {**document, "more": 1},
        {**document, "run": {**run, "more": 1}},
        {**document, "run": {**run, "status": "done"}},
        {**document, "run": {**run, "started": "2026-11-22T10:00:00"}},
        {**document, "run": {name: value for name, value in run.items() if name != "stack"}},
        {**document, "run": {**run, "steps": [{**step, "more": 1}]}},
        {**document, "run": {**run, "steps": [{**step, "error": "text"}]}},
    ]
    assert judge("run_document").is_valid(document)
    assert [judge("run_document").is_valid(mutant) for mutant in mutants] == [False] * len(mutants)
    assert judge("run_document", is_strict=False).is_valid(mutants[1])  # users may meet a later field


def test_each_document_is_of_one_kind():
    """Without the name of its kind, the whole schema judges too; what is of two kinds, or of none, is refused."""
    judge = jsonschema.Draft202012Validator(json_schema())
    run = evolve(trip("open"), error=None)
    one, several = as_json(run_document(run)), as_json(runs_document([run], "x"))
    assert [judge.is_valid(document) for document in (one, several)] == [True, True]
    assert [judge.is_valid(document) for document in (one | several, {"schema": 1}, {})] == [False, False, False]


def test_the_schema_is_printed():
    command = [sys.executable, "-m", "sagadsl", "--schema"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == json_schema()
