import os

from skastro.utils.files import remove_leftovers, write_whole


def test_leftovers_of_killed_processes_are_removed_a_day_later(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / ".12.b.txt"
    leftovers = old, new = tmp_path / ".12.a.txt", tmp_path / ".34.a.txt"
    for file in (*leftovers, other, tmp_path / ".hidden.a.txt"):
        file.write_text("half")
    os.utime(old, (0, 0))
    write_whole(path, b"whole")
    assert not old.exists()
    assert new.exists()
    remove_leftovers(path)
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", ".12.b.txt", ".hidden.a.txt"}
