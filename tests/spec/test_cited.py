"""Every numbered sentence of the specification has a vector and a test."""

from tests.spec.cited import missing, sentences


def test_each_numbered_sentence_has_a_vector_and_a_test() -> None:
    assert sentences()
    assert not missing(), "run: python -m tests.spec.cited"
