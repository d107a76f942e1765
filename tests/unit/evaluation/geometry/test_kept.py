from nemo_cosmos.evaluation.geometry.kept import LastResults


def test_the_last_results_are_kept_and_older_ones_found_again():
    found = []

    def ask(kept, word):
        return kept.get([word.encode()], lambda: found.append(word) or word.upper())

    kept = LastResults(most=2)
    assert [ask(kept, word) for word in "aab"] == ["A", "A", "B"]
    assert found == ["a", "b"]
    ask(kept, "c")
    assert ask(kept, "a") == "A" and found == ["a", "b", "c", "a"]
