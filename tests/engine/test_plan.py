"""What runs, what is reused, and whether the reason tells the truth."""

from pathlib import Path

import pytest
from tests.engine.conftest import Config, Toy

from slicewise.core.errors import UsageError
from slicewise.engine.plan import Action, Decision, plan, select
from slicewise.engine.step import Outcome, Step


def test_an_empty_workspace_runs_everything(toy: Toy) -> None:
    assert toy.actions() == "run run run"
    assert toy.plan()["gather"].reason == "no output yet"


def test_planning_changes_nothing(toy: Toy) -> None:
    toy.plan()
    assert not toy.root.exists()


def test_nothing_changed_nothing_runs(toy: Toy) -> None:
    assert toy.run() == ["gather", "join", "count"]
    assert toy.actions() == "reuse reuse reuse"
    assert toy.run() == []


def test_a_changed_key_is_named_with_both_values_and_reruns_what_depends_on_it(toy: Toy) -> None:
    toy.run()
    toy.config["glue"] = "+"
    decisions = toy.plan()
    assert toy.actions() == "reuse run run"
    assert decisions["join"].reason == "glue: - -> +"
    assert decisions["count"].reason == "join changed"
    assert toy.run() == ["join", "count"]


def test_a_key_that_a_step_does_not_read_reruns_nothing(toy: Toy) -> None:
    toy.run()
    toy.config["port"] = 8080
    assert toy.actions() == "reuse reuse reuse"


def test_going_back_brings_earlier_work_home_without_running(toy: Toy) -> None:
    toy.run()
    toy.config["letters"] = "abcdef"
    assert toy.run() == ["gather", "join", "count"]
    assert toy.text("count") == "7"
    toy.config["letters"] = "abc"
    assert toy.plan()["count"].reason == "made earlier with these settings"
    assert toy.run() == []
    assert toy.text("count") == "4"
    assert toy.text("more") == "abc-"


def test_a_changed_new_or_removed_input_file_is_named(toy: Toy, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    (folder / "b.txt").write_text("1")
    toy.config["folder"] = str(folder)
    toy.run()
    (folder / "a.txt").write_text("22")
    assert toy.plan()["gather"].reason == "folder: a.txt changed"
    (folder / "c.txt").write_text("3")
    (folder / "b.txt").unlink()
    assert toy.plan()["gather"].reason == "folder: a.txt changed; folder: c.txt new; folder: b.txt gone"
    assert toy.actions() == "run run run"


def test_only_what_a_step_reads_of_an_input_counts(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("1")
    (tmp_path / "raw" / "b.txt").symlink_to(tmp_path / "nowhere")
    toy.config["folder"] = str(tmp_path / "raw")
    toy.run()
    (tmp_path / "raw" / "Thumbs.db").touch()
    assert toy.actions() == "reuse reuse reuse"
    (tmp_path / "nowhere").touch()
    assert toy.plan()["gather"].reason == "folder: b.txt new"


def test_the_same_content_in_another_folder_is_the_same_input(toy: Toy, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("1")
    toy.config["folder"] = str(tmp_path / "one")
    toy.run()
    toy.config["folder"] = str(tmp_path / "two")
    assert toy.actions() == "reuse reuse reuse"


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "folder"])
def test_a_damaged_output_is_named_and_made_again_and_what_depends_on_it_is_kept(
    toy: Toy, damage: str
) -> None:
    toy.run()
    path = toy.root / "homes" / "join" / "text"
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_text("a")
    elif damage == "flip":
        path.write_text("abd-")
    else:
        path.unlink()
        (path.parent / ".receipt.json").unlink()
        path.parent.rmdir()
    assert "homes/join" in toy.plan()["join"].reason
    assert toy.actions() == "reuse run check"
    assert toy.run() == ["join"]
    assert toy.actions() == "reuse reuse reuse"


def test_touching_a_file_without_changing_it_reruns_nothing(toy: Toy) -> None:
    toy.run()
    (toy.root / "homes" / "join" / "text").touch()
    assert toy.actions() == "reuse reuse reuse"


def test_force_runs_a_step_and_keeps_later_ones_if_it_gives_the_same(toy: Toy) -> None:
    toy.run()
    decisions = toy.plan(force=["gather"])
    assert decisions["gather"].reason == "forced"
    assert decisions["join"].reason == "reused if gather gives the same output again"
    assert toy.run(force=["gather"]) == ["gather"]


def test_a_forced_step_with_another_output_reruns_later_ones(toy: Toy) -> None:
    toy.run()
    toy.weather = "!"
    assert toy.run(force=["gather"]) == ["gather", "join", "count"]


def test_skip_uses_what_is_there_though_files_and_versions_have_changed(toy: Toy) -> None:
    folder = toy.root / "given"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    toy.config["folder"] = str(folder)
    toy.run()
    (folder / "a.txt").write_text("b")
    assert toy.plan(skip=["gather"])["gather"].reason == (
        "--skip-gather; a run would make it again: folder: a.txt changed"
    )
    assert toy.run(skip=["gather"]) == []
    with pytest.raises(
        UsageError, match=r"a.txt changed\. Run it first.* or use what is there with --skip-gather"
    ):
        toy.plan(only=["join"])


@pytest.mark.parametrize("flags", [{"skip": ["gather"]}, {"skip": ["gather", "join"]}])
def test_an_output_of_other_settings_is_not_built_on(toy: Toy, flags: dict[str, list[str]]) -> None:
    """What comes after it would be told to be of settings that made nothing."""
    toy.run()
    toy.config["letters"] = "xyz1"
    with pytest.raises(UsageError, match=r"--skip-gather: .* other settings: letters: abc"):
        toy.plan(**flags)
    assert toy.actions(skip=["gather", "join", "count"]) == "skip skip skip", "nothing is built"


def test_what_was_made_from_another_output_is_not_mixed_with_the_new_one(toy: Toy) -> None:
    """So no network is tested on patients of another split, whom it has learned from."""
    toy.run()
    toy.config["letters"] = "xyz1"
    message = r"--skip-join: the output of join was made from another gather"
    with pytest.raises(UsageError, match=message):
        toy.plan(skip=["join"])
    toy.run(until="gather")
    with pytest.raises(UsageError, match=message):
        toy.plan(skip=["join"], members=["count"])
    toy.config["letters"] = "abc"
    assert toy.run(skip=["join"]) == []


def test_another_output_of_the_same_settings_is_noticed_when_it_is_there(toy: Toy) -> None:
    toy.run()
    toy.weather = "!"
    assert toy.actions(force=["gather"], skip=["join"]) == "run skip reuse"
    with pytest.raises(UsageError, match="made from another gather"):
        toy.run(force=["gather"], skip=["join"])


def test_what_lies_behind_a_skipped_step_is_no_change(toy: Toy) -> None:
    toy.run()
    decisions = toy.plan(members=["count"], skip=["join"])
    assert decisions["join"].reason == "--skip-join"
    assert decisions["gather"].reason == "not part of --mode full"
    assert toy.run(members=["count"], skip=["join"]) == []


def test_a_step_outside_that_may_turn_out_the_same_is_waited_for(toy: Toy) -> None:
    toy.run()
    assert toy.run(only=["count"], force=["gather"]) == ["gather"]
    toy.weather = "!"
    with pytest.raises(UsageError, match="needs join, which would have to run: gather gave another output"):
        toy.run(only=["count"], force=["gather"])


def test_skip_without_an_output_says_what_to_run(toy: Toy) -> None:
    with pytest.raises(UsageError, match=r"is missing\. Leave the option out to make it"):
        toy.plan(skip=["gather"])


def test_a_last_step_may_be_skipped_without_an_output(toy: Toy) -> None:
    assert toy.run(skip=["count"]) == ["gather", "join"]


def test_steps_outside_the_mode_are_used_if_current_and_refused_if_stale(toy: Toy) -> None:
    toy.run(members=["gather"])
    assert toy.run(members=["join", "count"]) == ["join", "count"]
    toy.config["letters"] = "other"
    with pytest.raises(
        UsageError, match="needs gather, which would have to run: letters: abc -> other"
    ) as bad:
        toy.plan(members=["join", "count"])
    assert "--skip" not in str(bad.value), "it would not be obeyed"


def test_an_output_that_is_not_there_is_not_offered(toy: Toy) -> None:
    with pytest.raises(UsageError, match=r"needs gather, .* with --until gather in place of") as refused:
        toy.plan(members=["join", "count"])
    assert "--skip" not in str(refused.value)


def test_a_step_nobody_needs_is_left_alone(toy: Toy) -> None:
    assert toy.plan(until="gather")["count"].reason == "not part of --until gather"
    assert toy.run(until="gather") == ["gather"]


def test_only_runs_one_step(toy: Toy) -> None:
    toy.run()
    toy.config["unit"] = "words"
    assert toy.run(only=["count"]) == ["count"]


def test_a_running_service_is_looked_at_again_after_what_it_serves(toy: Toy) -> None:
    """Whether it goes on is known only when that has run: it may give the same again."""
    serve: Step[Config] = Step(
        "serve", lambda _: Outcome(), lambda _: {}, needs=("count",), is_live=lambda *_: True
    )
    toy.run()

    def told(*force: str) -> Decision[Config]:
        steps = (*toy.steps(), serve)
        selection = select(steps, scope="--mode full", force=force)
        return plan(steps, toy.config, toy.workspace, toy.workspace.load_hashes(), selection)[-1]

    assert (told().action, told().reason) == (Action.REUSE, "running")
    assert told("count").action is Action.CHECK
