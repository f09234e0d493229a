"""Objects streamed out of large JSON files of both layouts, and what is said of broken ones."""

import json

import pytest

from cliptd.data.files.json_objects import iterate_objects

OBJECTS = [{"id": 1, "share": 0.5}, {"id": 2, "text": "é\n"}]


@pytest.mark.parametrize("content", [OBJECTS, {"info": {"x": [1]}, "questions": OBJECTS, "license": None}])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b" \n"])
def test_both_layouts_give_the_same_objects(tmp_path, content, mark):
    path = tmp_path / "Q.json"
    path.write_bytes(mark + json.dumps(content).encode())
    found = list(iterate_objects(path, "questions"))
    assert [value for _, value in found] == OBJECTS
    assert isinstance(found[0][1]["share"], float)
    assert found[1][0] == f"{path}, questions[1]"


def test_no_more_than_is_asked_for_is_read(tmp_path):
    path = tmp_path / "Q.json"
    path.write_text(json.dumps([{"n": n} for n in range(100_000)])[:-20])  # its end is missing
    objects = iterate_objects(path, "questions")
    assert next(objects)[1] == {"n": 0}
    with pytest.raises(ValueError, match=r"not JSON after questions\[99997\] \(was the file cut off\?\)"):
        list(objects)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "starts with b'', expected a JSON array or an object with 'questions'"),
        ("PK\x03", "starts with b'P'"),
        ("[]", "holds no object under 'questions'"),
        ('{"annotations": [{}]}', "holds no object under 'questions'"),
        ("[1]", r"questions\[0\]: found a JSON int, expected an object"),
        ('{"questions": [{"a": 1}, tru', r"not JSON after questions\[0\]"),
        ("{", "not JSON at its beginning"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path, content, message):
    path = tmp_path / "Q.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"Q\.json.*{message}"):
        list(iterate_objects(path, "questions"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Q\.json: no such file, expected JSON with questions"):
        list(iterate_objects(tmp_path / "Q.json", "questions"))
