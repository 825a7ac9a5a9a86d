import os
import time

from wsolviz.ui import downloads


def test_old_downloads_are_deleted_and_new_ones_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "exports_folder", lambda: tmp_path / "exports")
    old, young = downloads.new_file("a.zip"), downloads.new_file("a.zip")
    for path in (old, young):
        path.write_text("content")
    past = time.time() - downloads.KEEP_SECONDS - 60
    os.utime(old.parent, (past, past))
    newest = downloads.new_file("a.zip")
    assert not old.parent.exists()
    assert young.read_text() == "content"
    assert newest.parent.is_dir()
