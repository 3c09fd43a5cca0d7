"""The reader of pages sees what is wrong with them: each test shows it a bad page."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta import pages


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[pages.Reader]:
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    with pages.Reader(folder, scratch) as found:
        yield found


def block(language: str, text: str) -> str:
    return f"```{language}\n{text}```\n\n"


def test_a_true_page_passes(reader: pages.Reader) -> None:
    page = (
        block("python", "# one.py\nprint(6 * 7, 'at', '12:00:00')\n")
        + block("sh", "name=one\npython one.py\n")
        + block("text", "42 at 09:30:01\n")
        + block("sh", 'echo "$name"\nprintf "a\\nb\\nc\\n"\n')
        + block("text", "one\na\n…\nc\n")
        + "*Not run by the tests: it is of another planet.*\n\n"
        + block("ini", "[x]\n")
    )
    assert reader.read(page) == 3


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (block("sh", "echo 1\n") + block("text", "2\n"), "the page says\n2\n"),
        (block("sh", "echo 1; echo 2\n") + block("text", "1\n"), "the page says\n1\n"),
        (block("sh", "echo 'a b'\n") + block("text", "…\u0020…x\n"), "the page says"),
        (block("sh", "echo 1\n"), "does not show"),
        (block("sh", "echo oh\nfalse\necho 2\n"), "a command failed:\noh"),
        (block("sh", "false\n") + block("text", "\n"), "a command failed"),
        (block("python", "raise SystemExit(3)\n"), "a command failed"),
        (block("python", "# two.py\nprint(1)\n"), "saved and never run: {'two.py'}"),
        (block("ini", "[x]\n"), "say why"),
        (block("json", "{}\n"), "say why"),
        (block("text", "1\n"), "what printed this?"),
        ("- a\n\n  ```sh\n  false\n  ```\n", ""),
        (block("sh", "sojourn-server --store sqlite:///none/x.db\n"), "there is no directory"),
    ],
)
def test_a_false_page_fails(tmp_path: Path, page: str, complaint: str) -> None:
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    with pytest.raises(AssertionError) as failed, pages.Reader(folder, scratch) as reader:
        reader.read(page)
    assert complaint in str(failed.value)


@pytest.mark.parametrize(
    "link", ["[a](none.md)", "[a](other.md#nothing)", "![a](none.svg)", "[a](#nothing)"]
)
def test_a_link_to_nothing_is_found(tmp_path: Path, link: str) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(f"# A title\n\nSee {link}.\n")
    other.write_text("# Other\n\n## Some `thing` (twice)\n\n## Some thing twice\n")
    assert len(pages.broken_links(page, tmp_path)) == 1
    page.write_text(
        "# A title\n\n[a](other.md) [b](other.md#some-thing-twice-1) [c](#a-title) `[d](none.md)`\n"
        "[e](https://sojourn.example/none)\n\n```text\n[f](none.md)\n```\n"
    )
    assert pages.broken_links(page, tmp_path) == []


def test_a_page_that_nobody_links_to_is_not_reached(tmp_path: Path) -> None:
    for name, text in {"a": "[b](b.md)", "b": "[a](a.md#x)", "c": "[a](a.md)"}.items():
        (tmp_path / f"{name}.md").write_text(text)
    assert {page.stem for page in pages.reachable(tmp_path / "a.md")} == {"a", "b"}


def test_what_a_failing_block_left_running_is_ended(tmp_path: Path) -> None:
    terminal = pages.Terminal(tmp_path)
    with pytest.raises(AssertionError, match="a command failed"):
        terminal.run("sleep 60 & echo $! > pid\nfalse\n", tmp_path / "block.sh")
    terminal.close()
    left = int((tmp_path / "pid").read_text(encoding="utf-8"))

    def runs() -> bool:
        # A process that has ended may wait for somebody to notice.
        stat = Path(f"/proc/{left}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    until = time.monotonic() + 5
    while runs():
        assert time.monotonic() < until
        time.sleep(0.01)
