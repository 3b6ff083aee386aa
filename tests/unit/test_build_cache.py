# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: entries are whole or absent, whoever is interrupted, and are built once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from labnic.build.cache import Cache, canonical, hash_files, write_atomic
from labnic.errors import BuildError, PrerequisiteError


def fill(folder: Path) -> None:
    (folder / "result").write_text("whole")


def left_over(cache: Cache, kind: str) -> list[str]:
    folder = cache.root / kind
    return sorted(item.name for item in folder.iterdir() if item.name.startswith(".")) if folder.exists() else []


def test_an_entry_is_made_once_and_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        fill(folder)

    first = cache.entry("thing", {"a": 1}, make)
    assert cache.entry("thing", {"a": 1}, make) == first
    assert (first / "result").read_text() == "whole"
    assert len(calls) == 1
    assert json.loads(first.with_name(first.name + ".json").read_text()) == {"a": 1}


@pytest.mark.parametrize("problem", [BuildError("no"), KeyboardInterrupt(), OSError("disk full")])
def test_an_interrupted_make_leaves_nothing(tmp_path: Path, problem: BaseException) -> None:
    cache = Cache(tmp_path)

    def make(folder: Path) -> None:
        fill(folder)
        raise problem

    with pytest.raises(type(problem)):
        cache.entry("thing", {"a": 1}, make)
    assert not cache.path("thing", {"a": 1}).exists()
    assert left_over(cache, "thing") == []
    assert (cache.entry("thing", {"a": 1}, fill) / "result").exists()


def be_killed(root: Path) -> None:
    def make(folder: Path) -> None:
        fill(folder)
        os.kill(os.getpid(), signal.SIGKILL)

    Cache(root).entry("thing", {"a": 1}, make)


def test_a_killed_make_leaves_no_entry_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=be_killed, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    cache = Cache(tmp_path)
    assert not cache.path("thing", {"a": 1}).exists()
    assert len(left_over(cache, "thing")) == 1
    cache.entry("thing", {"a": 1}, fill)
    assert left_over(cache, "thing") == []


def exit_codes(target: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> list[int | None]:
    """Of processes that run at a time, one for each of the arguments."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=target, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


def build_and_count(root: Path, counter: Path) -> None:
    def make(folder: Path) -> None:
        with counter.open("a") as out:
            out.write("built\n")
        fill(folder)

    Cache(root).entry("thing", {"a": 1}, make)


def test_two_processes_build_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    assert exit_codes(build_and_count, [(tmp_path / "cache", counter)] * 4) == [0, 0, 0, 0]
    assert counter.read_text() == "built\n"


def test_a_lock_that_is_held_ends_in_an_error_that_names_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.lock("held"), pytest.raises(BuildError, match="building held"), cache.lock("held", limit=0.1):
        pytest.fail("the lock was given twice")


def test_the_order_of_a_key_does_not_matter_and_its_values_do(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.path("thing", {"a": 1, "b": [1, 2]}) == cache.path("thing", {"b": [1, 2], "a": 1})
    different = {cache.path("thing", key) for key in ({"a": 1}, {"a": "1"}, {"a": 2}, {"a": None}, {"b": 1})}
    assert len(different) == 5


def test_names_of_entries_are_the_same_in_every_release() -> None:
    # A changed name would make every user build everything again, and say nothing.
    assert canonical({"b": [1, None], "a": "ä"}) == b'{"a":"\\u00e4","b":[1,null]}'
    assert Cache.name({"a": 1}) == "015abd7f5cc57a2dd94b"


def test_only_the_last_used_entries_are_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entries = []
    for number in range(4):
        entries.append(cache.entry("thing", {"n": number}, fill, keep=2))
        os.utime(entries[-1], (number, number))
    assert [entry.exists() for entry in entries] == [False, False, True, True]
    assert not entries[0].with_name(entries[0].name + ".json").exists()


def make_many(root: Path, first: int) -> None:
    for number in range(first, first + 100):
        Cache(root).entry("thing", {"n": number}, fill, keep=1)


def test_processes_that_forget_entries_at_a_time_do_not_fail(tmp_path: Path) -> None:
    assert exit_codes(make_many, [(tmp_path, number * 1000) for number in range(4)]) == [0, 0, 0, 0]


def test_an_entry_that_is_held_is_kept_beside_any_number_of_newer_ones(tmp_path: Path) -> None:
    """A long run of another process still starts programs from it."""
    cache = Cache(tmp_path)
    held, other = (cache.entry(kind, {}, fill, keep=1) for kind in ("thing", "other"))
    hold = Cache(tmp_path).hold(held / "result", tmp_path.parent / "no entry")
    for number in range(3):
        cache.entry("thing", {"n": number}, fill, keep=1)
        cache.entry("other", {"n": number}, fill, keep=1)
    assert (held / "result").exists()
    assert not other.exists()
    del hold
    cache.entry("thing", {"n": 3}, fill, keep=1)
    assert not held.exists()
    assert not held.with_name(held.name + ".json").exists()


def test_an_entry_that_is_gone_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="thing/gone cannot be kept"):
        Cache(tmp_path).hold(tmp_path / "thing" / "gone" / "result")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    path.chmod(0o600)
    with pytest.raises(TypeError):
        write_atomic(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_cache_that_cannot_be_made_is_a_prerequisite(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PrerequisiteError, match="cannot be made") as caught:
        Cache(tmp_path / "file")
    assert "LABNIC_CACHE" in caught.value.hint


def test_hashes_name_files_by_their_place(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    hashes = hash_files([tmp_path / "sub" / "a", tmp_path / "b"], tmp_path)
    assert list(hashes) == ["b", "sub/a"]
    assert hashes["b"] == hashes["sub/a"]
