def test_its_options_are_those_of_the_command(install, raw, tmp_path):
    program = [sys.executable, "-W", "ignore", "-m", "nemo_cosmos", "curate"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(install()), *sys.path])}

    def run(*words):
        command = [*program, *map(str, words)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout

    shown = run("--help")
    assert "--max-letters" in shown and "Stage 'name_length'" in shown
    words = [raw, tmp_path / "out", "--executor", "inline", "--json", "--skip", "all"]
    words += ["--min-clip-s", 1, "--catalogue", tmp_path / "catalogue.db"]
    assert json.loads(run(*words))["num_clips"] == 3
    words[words.index("all")] = ",".join(OPTIONAL_STAGES)
    summary = json.loads(run(*words, "--max-letters", 14))
    assert summary["rejected"]["long_name"] == 2
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["settings"]["name_length"] == {"max_letters": 14}
