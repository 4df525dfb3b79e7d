import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from maxsight.pipelines.query import text_cache
from maxsight.pipelines.query.text_cache import TextCache


def test_a_text_comes_back_bit_for_bit(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).normal(size=768).astype(np.float32)
    TextCache(tmp_path / "c.sqlite").put("f", {"a red bus": vector})
    found = TextCache(tmp_path / "c.sqlite").get("f", ["a red bus", "unseen"])
    assert list(found) == ["a red bus"]
    np.testing.assert_array_equal(found["a red bus"], vector)


def test_tokens_come_back_beside_the_vector(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    cache = TextCache(tmp_path / "c.sqlite")
    cache.put("f", {"a bus": np.ones(8)})
    assert cache.get_tokens("f", ["a bus"], width=16) == {}
    cache.put_tokens("f", {"a bus": tokens, "": tokens[:0]})
    found = cache.get_tokens("f", ["a bus", "", "unseen"], width=16)
    np.testing.assert_array_equal(found["a bus"], tokens)
    assert found[""].shape == (0, 16)
    np.testing.assert_array_equal(cache.get("f", ["a bus"])["a bus"], np.ones(8))


def test_encoders_do_not_share_texts(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "c.sqlite")
    cache.put("one", {"cat": np.ones(3)})
    assert cache.get("two", ["cat"]) == {}


def test_it_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "_CAPACITY", 10)
    cache = TextCache(tmp_path / "c.sqlite")
    for number in range(25):
        cache.put("f", {f"text {number}": np.full(2, number)})
    kept = cache.get("f", [f"text {number}" for number in range(25)])
    assert sorted(kept) == sorted(f"text {number}" for number in range(15, 25))


@pytest.mark.parametrize("damage", ["not a database", ""])
def test_a_damaged_cache_never_stops_a_search(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.sqlite"
    path.write_text(damage * 1000)
    cache = TextCache(path)
    cache.put("f", {"cat": np.ones(3)})
    assert set(cache.get("f", ["cat"])) <= {"cat"}


def test_no_place_for_it_never_stops_a_search(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    cache = TextCache(tmp_path / "file" / "c.sqlite")
    cache.put("f", {"cat": np.ones(3)})
    assert cache.get("f", ["cat"]) == {}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from maxsight.pipelines.query.text_cache import TextCache
cache = TextCache(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 50):
    cache.put("f", {f"text {number}": np.full(4, number)})
"""


def test_a_new_file_that_another_process_is_setting_up_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.execute, ["COMMIT"]).start()
    cache = TextCache(path)
    cache.put("f", {"a": np.ones(4)})
    assert list(cache.get("f", ["a"])) == ["a"]


def test_processes_share_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)])
        for start in (0, 50, 100)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(TextCache(path).get("f", [f"text {n}" for n in range(150)])) == 150
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


DAMAGES = {
    "a wrong length": "UPDATE texts SET vector = x'00'",
    "another width": "UPDATE texts SET vector = zeroblob(4)",
    "no bytes": "UPDATE texts SET vector = 'text'",
    "a number": "UPDATE texts SET vector = 7",
    "other bytes": "UPDATE texts SET vector = randomblob(length(vector))",
    "an old row that is not finite": "UPDATE texts SET vector = x'0000c07f0000c07f0000c07f'",
    "a wrong sum": "UPDATE sums SET crc32 = 'x'",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_row_costs_an_encoding(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.sqlite"
    vector = np.full(3, 0.5, np.float32)
    with closing(TextCache(path)) as cache:
        cache.put("f", {"cat": vector})
        cache.put_tokens("f", {"cat": np.ones((2, 3), np.float32)})
    with closing(sqlite3.connect(path)) as connection, connection:
        if "c07f" in damage:
            connection.execute("DELETE FROM sums")
        connection.execute(damage)
    with closing(TextCache(path)) as cache:
        assert cache.get("f", ["cat"], dim=3) == {}
        assert cache.get_tokens("f", ["cat"], width=3) == {}
        assert not len(cache.newest("f", 9))
        cache.put("f", {"cat": vector})
        np.testing.assert_array_equal(cache.get("f", ["cat"], dim=3)["cat"], vector)
        np.testing.assert_array_equal(cache.newest("f", 9), [vector])


@pytest.mark.parametrize("used", ["'x'", "x'00'", str(2**63 - 1), str(-(2**63)), "1e300"])
def test_a_turn_that_cannot_be_is_no_turn(tmp_path: Path, used: str) -> None:
    path = tmp_path / "c.sqlite"
    with closing(TextCache(path)) as cache:
        cache.put("f", {"old": np.full(3, 0.5, np.float32)})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE texts SET used = {used}")
    with closing(TextCache(path)) as cache:
        cache.put("f", {"cat": np.ones(3, np.float32)})
        assert len(cache.get("f", ["cat", "old"])) == 2


def test_rows_of_older_maxsights_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with closing(TextCache(path)) as cache:
        cache.put("f", {"cat": np.ones(3)})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE sums")
        connection.execute("DROP TRIGGER forget")
    with closing(TextCache(path)) as cache:
        np.testing.assert_array_equal(cache.get("f", ["cat"], dim=3)["cat"], np.ones(3))


def test_texts_that_are_not_utf_8_are_encoded_each_time(tmp_path: Path) -> None:
    with closing(TextCache(tmp_path / "c.sqlite")) as cache:
        cache.put("f", {"caf\udce9": np.ones(3), "cat": np.ones(3)})
        assert list(cache.get("f", ["caf\udce9", "cat"])) == ["cat"]


def test_sums_go_with_their_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "_CAPACITY", 3)
    with closing(TextCache(tmp_path / "c.sqlite")) as cache:
        for number in range(9):
            cache.put("f", {f"text {number}": np.full(2, number)})
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM sums").fetchone() == (3,)


def test_a_cache_that_vanishes_or_is_read_only_never_stops_a_search(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "c.sqlite"
    with closing(TextCache(path)) as cache:
        cache.put("f", {"cat": np.ones(3)})
        shutil.rmtree(path.parent)
        cache.put("f", {"dog": np.ones(3)})
        cache.get("f", ["cat", "dog"])
    with closing(TextCache(path)) as cache:
        cache.put("f", {"cat": np.ones(3)})
    path.write_bytes(path.read_bytes()[:5000])
    with closing(TextCache(path)) as cache:
        cache.put("f", {"dog": np.ones(3)})
        cache.get("f", ["cat", "dog"])
