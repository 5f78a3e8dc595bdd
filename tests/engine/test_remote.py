"""Push and pull: what comes from a remote workspace is used only if it is what its receipt says."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import Toy

from slicewise.core.errors import RemoteError, SliceWiseError, UsageError
from slicewise.engine.receipt import FileChecksum, Receipt, product_digest
from slicewise.engine.remote import Remote
from slicewise.engine.transfer import explain_absence, plan_push, pull, push
from slicewise.engine.workspace import StoredOutput, Workspace


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "remote"


@pytest.fixture
def colleague(toy: Toy, tmp_path: Path) -> Toy:
    """The same pipeline in another workspace, after a push of all outputs of the first one."""
    toy.run()
    return Toy(tmp_path / "colleague", dict(toy.config))


def output_of(toy: Toy, name: str) -> StoredOutput:
    decision = toy.plan()[name]
    assert decision.output is not None
    return decision.output


def push_steps(toy: Toy, address: Path, *names: str) -> list[int]:
    """Push outputs; return how many files each one had to upload."""
    remote, numbers = Remote(str(address)), []
    for name in names:
        planned = plan_push(remote, toy.workspace, output_of(toy, name))
        push(remote, planned)
        numbers.append(len(planned.missing))
    return numbers


def pull_step(toy: Toy, address: Path, name: str) -> int:
    remote, step = Remote(str(address)), next(step for step in toy.steps() if step.name == name)
    receipt = remote.receipt(name, toy.plan()[name].identity.fingerprint)
    assert receipt is not None
    return pull(remote, toy.workspace, toy.steps(), step, receipt)


def receipt_path(address: Path, name: str) -> Path:
    (path,) = address.glob(f"outputs/{name}/*/receipt.json")
    return path


def forge(address: Path, name: str, change: Callable[[Receipt], Receipt]) -> None:
    """Change a remote receipt and seal it anew, as anybody can who may write there."""
    path = receipt_path(address, name)
    receipt = Receipt.parse(path.read_bytes())
    assert receipt is not None
    path.write_bytes(change(receipt).to_bytes())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".slicewise" not in path.parts
    }


def test_a_colleague_reuses_what_was_pushed_and_is_told_where_it_is_from(
    toy: Toy, colleague: Toy, address: Path
) -> None:
    push_steps(toy, address, "join")
    assert pull_step(colleague, address, "join") > 0
    assert colleague.plan()["join"].reason == "reused if gather gives the same output again"
    assert colleague.run() == ["gather", "count"]
    assert colleague.plan()["join"].reason == f"unchanged, pulled from {address}"
    assert colleague.text("count") == toy.text("count")
    assert not [*colleague.workspace.faults(output_of(colleague, "join"))]


def test_what_was_made_from_other_data_is_not_reused(toy: Toy, colleague: Toy, address: Path) -> None:
    push_steps(toy, address, "join")
    colleague.weather = "!"  # gather gives another output under the same settings
    pull_step(colleague, address, "join")
    assert colleague.run() == ["gather", "join", "count"]


def test_nothing_is_uploaded_twice(toy: Toy, colleague: Toy, address: Path) -> None:
    assert push_steps(toy, address, "gather", "join") == [1, 1]  # join has the same text in two homes
    before = {path: path.stat().st_mtime_ns for path in address.rglob("*")}
    assert push_steps(toy, address, "gather", "join") == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in address.rglob("*")} == before


def test_a_stopped_push_is_finished_by_the_next_one(toy: Toy, colleague: Toy, address: Path) -> None:
    push_steps(toy, address, "join")
    (file,) = address.glob("files/*/*")
    file.write_bytes(file.read_bytes()[:2])
    receipt_path(address, "join").write_bytes(b"{")
    assert push_steps(toy, address, "join") == [1]
    pull_step(colleague, address, "join")


def test_another_output_of_the_same_settings_stays_there(toy: Toy, colleague: Toy, address: Path) -> None:
    push_steps(toy, address, "join")
    toy.weather = "!"
    toy.run(force=["gather"])
    before = snapshot(address)
    planned = plan_push(Remote(str(address)), toy.workspace, output_of(toy, "join"))
    assert planned.conflict
    assert not planned.missing
    push(Remote(str(address)), planned)
    assert snapshot(address) == before


def test_a_changed_file_is_not_pushed(toy: Toy, colleague: Toy, address: Path) -> None:
    output = output_of(toy, "join")
    (toy.root / "homes" / "join" / "text").write_text("edited")
    with pytest.raises(RemoteError, match=r"homes/join/text has 6 bytes .* since it was made"):
        plan_push(Remote(str(address)), toy.workspace, output)
    (file,) = (toy.root / "homes" / "count").glob("text")
    status = file.stat()
    file.write_text("9")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # no stat shows it
    planned = plan_push(Remote(str(address)), toy.workspace, output_of(toy, "count"))
    with pytest.raises(RemoteError, match="homes/count/text was changed since it was made"):
        push(Remote(str(address)), planned)
    assert not [*address.glob("outputs/**/receipt.json")]


def test_a_stopped_pull_continues_with_what_it_has(toy: Toy, colleague: Toy, address: Path) -> None:
    toy.config["letters"] = colleague.config["letters"] = "abcd"
    toy.run()
    push_steps(toy, address, "gather", "join")
    (content,) = {path for path in address.glob("files/*/*") if path.read_bytes() == b"abcd-"}
    saved = content.read_bytes()
    content.unlink()
    with pytest.raises(RemoteError, match="is missing"):
        pull_step(colleague, address, "join")
    assert colleague.workspace.find(colleague.steps()[1], toy.plan()["join"].fingerprint) is None
    content.write_bytes(saved)
    partial = colleague.workspace.state / "pull" / "join"
    (folder,) = partial.glob("*/out")
    (folder / "text").write_bytes(saved)
    (folder / "left over").write_bytes(b"of another attempt")
    assert pull_step(colleague, address, "join") == len(saved)  # only the other home was missing
    assert {path.name for path in (colleague.root / "homes" / "join").iterdir()} == {
        "text",
        ".receipt.json",
        ".origin.json",
    }


def damage_file(address: Path, _toy: Toy) -> None:
    for path in address.glob("files/*/*"):
        path.write_bytes(path.read_bytes().upper() + b"")


def lengthen_file(address: Path, _toy: Toy) -> None:
    for path in address.glob("files/*/*"):
        path.write_bytes(path.read_bytes() * 1000)


def link_file(address: Path, _toy: Toy) -> None:
    for path in address.glob("files/*/*"):
        secret = address.parent / "secret"
        secret.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(secret)


def truncate_receipt(address: Path, _toy: Toy) -> None:
    path = receipt_path(address, "join")
    path.write_bytes(path.read_bytes()[:-9])


def swap_receipt(address: Path, _toy: Toy) -> None:
    receipt_path(address, "join").write_bytes(receipt_path(address, "gather").read_bytes())


def change_identity(address: Path, _toy: Toy) -> None:
    forge(address, "join", lambda r: replace(r, identity=replace(r.identity, settings={"glue": "+"})))


def rename_slot(address: Path, _toy: Toy) -> None:
    forge(address, "join", lambda r: replace(r, files={**r.files, "../../../escaped": r.files["out"]}))


def leave_folder(address: Path, _toy: Toy) -> None:
    forge(
        address,
        "join",
        lambda r: replace(r, files={**r.files, "more": {"../../escaped": r.files["out"]["text"]}}),
    )


def hide_in_digest(address: Path, _toy: Toy) -> None:
    def change(receipt: Receipt) -> Receipt:
        files = {**receipt.files, "more": {"text": FileChecksum(3, 1, "../../secret")}}
        return replace(receipt, files=files, product=product_digest(files, ("text",), {}))

    forge(address, "join", change)


def list_receipt(address: Path, _toy: Toy) -> None:
    def change(receipt: Receipt) -> Receipt:
        files = {**receipt.files, "more": {".receipt.json": receipt.files["out"]["text"]}}
        return replace(receipt, files=files, product=product_digest(files, ("text",), {}))

    forge(address, "join", change)


def plant_shared(name: str) -> Callable[[Path, Toy], None]:
    def plant(address: Path, toy: Toy) -> None:
        def change(receipt: Receipt) -> Receipt:
            shared = {name: receipt.files["out"]["text"]}
            return replace(receipt, shared=shared, product=product_digest(receipt.files, ("text",), shared))

        forge(address, "join", change)

    return plant


def contradict_product(address: Path, _toy: Toy) -> None:
    forge(address, "join", lambda r: replace(r, product="0" * 64))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (damage_file, "content of text, is not what the receipt says"),
        (lengthen_file, "content of text, is not what the receipt says"),
        (link_file, "a link that leads out of the folder"),
        (truncate_receipt, r"the receipt .* is damaged"),
        (swap_receipt, "is the receipt of another output, gather"),
        (change_identity, "is the receipt of another output, join"),
        (rename_slot, "has the folders"),
        (leave_folder, r"the receipt .* is damaged"),
        (hide_in_digest, "is no SHA-256"),
        (list_receipt, r"lists \.receipt\.json"),
        (plant_shared("homes/gather/text"), "lists homes/gather/text"),
        (plant_shared(".slicewise/homes.json"), r"lists \.slicewise/homes\.json"),
        (plant_shared("configs/recipes/evil.yaml"), "lists configs/recipes/evil.yaml"),
        (contradict_product, "contradicts itself"),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) else "",
)
def test_a_hostile_remote_is_refused_by_name_and_changes_nothing(
    toy: Toy, colleague: Toy, address: Path, attack: Callable[[Path, Toy], None], message: str
) -> None:
    push_steps(toy, address, "gather", "join")
    colleague.run(until="gather")
    before = snapshot(colleague.root)
    attack(address, toy)
    with pytest.raises(RemoteError, match=message):
        pull_step(colleague, address, "join")
    assert snapshot(colleague.root) == before
    assert not [*colleague.root.parent.rglob("escaped")]
    assert colleague.actions(until="join").split()[:2] == ["reuse", "run"]


def test_a_file_that_is_here_is_not_overwritten(toy: Toy, colleague: Toy, address: Path) -> None:
    push_steps(toy, address, "join")
    plant_shared("data/scan")(address, toy)
    mine = colleague.root / "data" / "scan"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RemoteError, match="data/scan is here with another content"):
        pull_step(colleague, address, "join")
    assert mine.read_text() == "mine"
    mine.unlink()
    pull_step(colleague, address, "join")
    assert mine.read_text() == toy.text("join")


def test_a_push_writes_nothing_through_a_link(
    toy: Toy, colleague: Toy, address: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    address.mkdir()
    (address / "files").symlink_to(outside)
    with pytest.raises(RemoteError, match="a link that leads out of the folder"):
        push_steps(toy, address, "join")
    assert not [*outside.iterdir()]


def test_other_settings_are_explained(toy: Toy, colleague: Toy, address: Path) -> None:
    remote = Remote(str(address))
    identity = toy.plan()["join"].identity
    assert explain_absence(remote, identity) == f"{address} has no output of it"
    push_steps(toy, address, "join")
    text = explain_absence(remote, replace(identity, settings={"glue": "+"}))
    assert "glue: - -> +" in text


def test_a_pull_replaces_nothing_for_good(toy: Toy, colleague: Toy, address: Path) -> None:
    push_steps(toy, address, "gather")
    colleague.config["letters"] = "xyz"
    colleague.run()
    colleague.config["letters"] = "abc"
    pull_step(colleague, address, "gather")
    assert colleague.text("gather") == "abc"
    colleague.config["letters"] = "xyz"
    assert colleague.run() == []  # the own output was on the shelf


@pytest.mark.parametrize("address", ["nonsense://bucket/folder", "https//"])
def test_an_unknown_kind_of_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "://" in address:
        with pytest.raises(UsageError, match="name a folder, or an address such as s3://"):
            Remote(address)
    else:
        assert Remote(address).steps() == []
        assert not [*tmp_path.iterdir()]


def test_a_remote_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SliceWiseError, match="cannot be used"):
        push_remote = Remote(str(tmp_path / "file"))
        push_remote.write_receipt(Receipt.parse(json.dumps({}).encode()) or _receipt(tmp_path))


def _receipt(tmp_path: Path) -> Receipt:
    toy = Toy(tmp_path / "w", {"letters": "a", "glue": "-", "unit": "u", "folder": None})
    toy.run()
    receipt = Workspace(toy.root).home_receipt(toy.steps()[0])
    assert receipt is not None
    return receipt
