"""Keys on disk and the fog's list of devices."""

import os
import stat
import threading

import pytest

from common.errors import ConfigError
from common.wire import keys
from common.wire.allow_list import AllowList, Device

A, B, C = (letter * 40 for letter in "abc")
ODD = "aB3.-:+=^!/*?&<>()[]{}@%$#0123456789abcd"


class TestKeys:
    def test_made_keys_load_again(self, tmp_path):
        made = keys.generate(tmp_path / "node")
        assert keys.load(tmp_path / "node") == made
        assert len(made.public) == 40
        assert (tmp_path / "node" / "public.key").read_text() == made.public + "\n"

    def test_the_secret_is_for_its_owner_only(self, tmp_path):
        made = keys.generate(tmp_path / "node")
        assert stat.S_IMODE((tmp_path / "node" / "secret.key").stat().st_mode) == 0o600
        assert made.secret not in repr(made)

    @pytest.mark.parametrize("name", ["public.key", "secret.key"])
    def test_keys_are_never_overwritten(self, tmp_path, name):
        made = keys.generate(tmp_path)
        with pytest.raises(ConfigError, match="never overwritten"):
            keys.generate(tmp_path)
        assert keys.load(tmp_path) == made
        (tmp_path / name).unlink()
        with pytest.raises(ConfigError, match="never overwritten"):
            keys.generate(tmp_path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_a_secret_that_others_can_read_is_refused(self, tmp_path, mode):
        keys.generate(tmp_path)
        (tmp_path / "secret.key").chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            keys.load(tmp_path)

    @pytest.mark.parametrize("name", ["", "public.key"])
    @pytest.mark.parametrize("mode", [0o020, 0o002])
    def test_keys_that_others_can_replace_are_refused(self, tmp_path, name, mode):
        keys.generate(tmp_path)
        path = tmp_path / name
        path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)
        with pytest.raises(ConfigError, match=r"others can write to the keys.*chmod"):
            keys.load(tmp_path)

    def test_missing_malformed_and_mixed_keys_are_named(self, tmp_path):
        with pytest.raises(ConfigError, match="keygen"):
            keys.load(tmp_path / "none")
        keys.generate(tmp_path / "one")
        other = keys.generate(tmp_path / "two")
        (tmp_path / "one" / "public.key").write_text(other.public)
        with pytest.raises(ConfigError, match="does not belong"):
            keys.load(tmp_path / "one")
        (tmp_path / "two" / "secret.key").write_text("short")
        with pytest.raises(ConfigError, match="40 characters"):
            keys.load(tmp_path / "two")

    def test_a_public_key_is_checked(self):
        assert keys.check_public_key(f" {ODD}\n") == ODD
        for bad in ("", "short", "x" * 41, "é" * 40, '"' * 40):
            with pytest.raises(ConfigError, match="no public key"):
                keys.check_public_key(bad)


class TestAllowList:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "allowed.yaml"

    def test_a_missing_list_lets_nobody_in(self, path):
        assert AllowList(path).devices == ()
        assert AllowList(path).get(A) is None

    def test_added_devices_are_read_again_with_their_rights(self, path):
        devices = [
            Device(A, may_upload=True, may_subscribe=(B, ODD), name='north "gate": #1'),
            Device(B, may_subscribe=("*",)),
            Device(ODD),
        ]
        listed = AllowList(path)
        for device in devices:
            listed.add(device)
        assert list(listed.devices) == list(AllowList(path).devices) == devices
        assert listed.get(A) == devices[0]

    def test_rights_to_receive_are_by_source_device(self):
        assert Device(A, may_subscribe=("*",)).may_receive(C)
        assert Device(A, may_subscribe=(B,)).may_receive(B)
        assert not Device(A, may_subscribe=(B,)).may_receive(C)
        assert not Device(A).may_receive(A)

    def test_adding_again_replaces_the_entry_and_keeps_peoples_comments(self, path):
        path.write_text(
            f"# the yard\ndevices:\n# the gate\n- key: '{A}'  # installed in May\n  may_upload: true\n\n"
            f'# the roof\n- {{key: "{B}", may_upload: true}}\n# end'
        )
        listed = AllowList(path)
        listed.add(Device(A, name="gate"))
        listed.add(Device(C, may_upload=True))
        listed.add(Device(B, may_subscribe=(A,)))
        assert listed.devices == (
            Device(A, name="gate"),
            Device(B, may_subscribe=(A,)),
            Device(C, may_upload=True),
        )
        text = path.read_text()
        for comment in ("# the yard", "# the gate", "# the roof", "# end"):
            assert comment in text

    @pytest.mark.parametrize("text", ["", "devices:\n", "devices: []\n", "# nothing yet\n", "{devices: []}"])
    def test_a_device_is_added_to_any_layout(self, path, text):
        path.write_text(text)
        listed = AllowList(path)
        listed.add(Device(A))
        listed.add(Device(B))
        assert [device.key for device in AllowList(path).devices] == [A, B]

    def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(self, path):
        listed = AllowList(path)
        assert not listed.reload()
        AllowList(path).add(Device(A))
        assert listed.get(A) is None
        assert listed.reload()
        assert listed.get(A) == Device(A)
        path.unlink()
        assert listed.reload()
        assert listed.get(A) is None

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("devices:\n  - key: short\n", "allowed.yaml line 2.*40 characters"),
            (f"devices:\n  - key: {A}\n    may_uplaod: true\n", "did you mean 'may_upload'"),
            (f"devices:\n  - key: {A}\n    may_upload: perhaps\n", "may_upload"),
            (f"devices:\n  - key: {A}\n    may_subscribe: [x]\n", "public keys of 40 characters"),
            (f"devices:\n  - key: {A}\n  - key: {A}\n", "twice"),
            ("devices: {", "not valid YAML"),
        ],
    )
    def test_a_malformed_list_is_named_and_the_old_one_stands(self, path, text, sentence):
        listed = AllowList(path)
        listed.add(Device(B))
        path.write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            listed.reload()
        assert listed.get(B) == Device(B)
        with pytest.raises(ConfigError, match=sentence):
            AllowList(path)

    def test_a_list_that_cannot_be_read_for_a_moment_is_read_the_next_time(self, path, monkeypatch):
        listed = AllowList(path)
        listed.add(Device(A))
        path.write_text("devices: []\n")

        def too_many(*_, **__):
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.read_text", too_many)
            with pytest.raises(ConfigError, match="Too many open files"):
                listed.reload()
        assert listed.get(A) == Device(A)
        assert listed.reload()
        assert listed.get(A) is None

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_list_that_others_can_write_is_refused_and_the_old_one_stands(self, path, mode):
        listed = AllowList(path)
        listed.add(Device(A))
        path.write_text(f"devices:\n  - key: '{B}'\n")
        path.chmod(mode)
        with pytest.raises(ConfigError, match=r"others can write to the allow-list.*chmod go-w"):
            listed.reload()
        assert [device.key for device in listed.devices] == [A]
        path.chmod(0o600)
        assert listed.reload()
        assert [device.key for device in listed.devices] == [B]

    def test_a_list_in_a_folder_where_everyone_writes_is_refused(self, path):
        AllowList(path).add(Device(A))
        path.parent.chmod(0o777)
        with pytest.raises(ConfigError, match="everyone can replace the allow-list"):
            AllowList(path)
        path.parent.chmod(0o1777)
        assert AllowList(path).get(A) is not None

    def test_a_malformed_list_is_named_to_everyone_who_looks(self, path):
        listed = AllowList(path)
        path.write_text("devices: {")
        for _ in range(2):
            with pytest.raises(ConfigError, match="not valid YAML"):
                listed.reload()

    @pytest.mark.parametrize("device", [Device("short"), Device(A, may_subscribe=("short",))])
    def test_a_malformed_key_is_not_written(self, path, device):
        with pytest.raises(ConfigError, match="no public key"):
            AllowList(path).add(device)
        assert not path.exists()

    def test_adding_at_the_same_time_loses_no_device(self, path):
        names = [f"{number:02d}" * 20 for number in range(12)]
        threads = [threading.Thread(target=lambda n=n: AllowList(path).add(Device(n))) for n in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {device.key for device in AllowList(path).devices} == set(names)
        assert list(path.parent.iterdir()) == [path]


def test_an_edited_list_stays_where_it_is_and_readable_for_whom_it_was(tmp_path):
    kept, link = tmp_path / "etc" / "list.yaml", tmp_path / "allow.yaml"
    kept.parent.mkdir()
    AllowList(kept).add(Device("a" * 40))
    kept.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(kept, 12_345, 12_346)
    link.symlink_to(kept)
    AllowList(link).add(Device("b" * 40))
    assert link.is_symlink()
    assert len(AllowList(kept).devices) == 2
    status = kept.stat()
    assert status.st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (12_345, 12_346)
