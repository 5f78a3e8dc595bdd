from pathlib import Path

from slicewise.engine.redirects import write_redirects
from slicewise.engine.workspace import Workspace


def test_a_page_leads_to_its_target_from_where_it_lies(tmp_path: Path) -> None:
    write_redirects(
        tmp_path, {"results/report.html": "results/report/report.html", "a/b/c.html": "d/e&f.html"}
    )
    assert 'url=report/report.html"' in (tmp_path / "results/report.html").read_text()
    assert 'href="../../d/e&amp;f.html"' in (tmp_path / "a/b/c.html").read_text()


def test_what_stands_there_is_left_alone_and_what_differs_is_replaced(tmp_path: Path) -> None:
    redirects, page = {"x.html": "y/x.html"}, tmp_path / "x.html"
    write_redirects(tmp_path, redirects)
    written, time = page.read_bytes(), page.stat().st_mtime_ns
    write_redirects(tmp_path, redirects)
    assert page.stat().st_mtime_ns == time
    page.write_text("something else")
    write_redirects(tmp_path, redirects)
    assert page.read_bytes() == written


def test_what_a_kill_left_of_a_page_is_removed(tmp_path: Path) -> None:
    for name in ("results/.report.html.x.unfinished", "results/recipes/.recipes.csv.x.unfinished"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    mine = tmp_path / "results" / "mine.txt"
    mine.touch()
    Workspace(tmp_path).sweep()
    assert [path for path in (tmp_path / "results").rglob("*") if path.is_file()] == [mine]
