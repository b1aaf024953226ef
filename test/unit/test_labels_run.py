"""`condense label`: killed and resumed, sharded, with damaged images; labels read back."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from condense_ros.cli.app import app, main
from condense_ros.errors import (
    ConfigError,
    DatasetError,
    EnvironmentProblem,
    LabelError,
    StorageFull,
)
from condense_training.labels import store as storing
from condense_training.labels.folder import LabelFolder
from condense_training.labels.images import SourceImage, open_images, pixel_hash
from condense_training.labels.labelers import LABELERS, LabelerEntry
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage
from condense_training.labels.report import remarks, write_report
from condense_training.labels.run import LabelConfig, LabelReport, label, label_on_ray
from condense_training.labels.shards import Shard, which_shard
from condense_training.labels.store import LabelHeader, LabelStore

ROOT = Path(__file__).parents[2]
HANDMADE = {"features": "handmade", "groups": 4, "segments": 12, "fit_images": 4}
CONFIG = LabelConfig(settings=HANDMADE)


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Blocks of colour."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number in range(6):
        path = folder / ("left" if number < 3 else "right/deep") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    return folder


def content(out: Path) -> dict[str, Any]:
    """Every label file of a folder by its path; of records, all but the time it took."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name.startswith("clusters/") or not path.is_file() or path.suffix == ".html":
            continue
        if path.suffix == ".json" and path.name != "labels.json":
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
        else:
            found[name] = path.read_bytes()
    return found


@dataclass(frozen=True)
class Empty:
    """No parameters."""


class Halves:
    """Left half class 0, right half class 1, as sure as the first pixel is red."""

    def __init__(self, fail: Exception | None = None, when: str = "") -> None:
        self.ontology = LabelOntology.load("olivine_13")
        self.identity: Mapping[str, Any] = {"halves": 1}
        self.calls: list[str] = []
        self._fail, self._when = fail, when

    def label(self, image: SourceImage) -> LabelImage:
        self.calls.append(image.name)
        if self._fail is not None and self._when in image.name:
            raise self._fail
        labels = np.zeros(image.pixels.shape[:2], np.uint8)
        labels[:, labels.shape[1] // 2 :] = 1
        sure = np.full(labels.shape, image.pixels[0, 0, 0] / 255, np.float32)
        return LabelImage(labels, sure)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a scripted labeler the one named "halves"."""

    def use(labeler: Any) -> LabelConfig:
        entry = LabelerEntry("none", "none", "model")
        object.__setattr__(entry, "config_class", lambda: Empty)
        object.__setattr__(entry, "build", lambda config, context: labeler)
        monkeypatch.setitem(LABELERS, "halves", entry)
        return LabelConfig(labeler="halves")

    return use


def test_labels_confidence_and_record_of_every_image(
    pictures: Path, tmp_path: Path, halves: Any
) -> None:
    labeler = Halves()
    report = label(pictures, tmp_path / "out", halves(labeler))
    assert (report.images, report.made, report.failed) == (6, 6, [])
    assert labeler.calls == ["left/0", "left/1", "left/2", *(f"right/deep/{i}" for i in (3, 4, 5))]
    assert report.pixels == {"barrier": 6 * 48 * 32, "bicycle": 6 * 48 * 32}
    folder = LabelFolder(tmp_path / "out", labeler.ontology)
    for number in range(6):
        made = folder.read(picture(number))
        assert (made.labels[:, :32] == 0).all()
        assert (made.labels[:, 32:] == 1).all()
        red = picture(number)[0, 0, 0] / 255
        assert np.abs(made.confidence - red).max() < 1e-6
    record = made.details
    assert record["labeler"] == "halves"
    assert record["ontology_hash"] == labeler.ontology.hash()
    assert record["image"] == {
        "sha256": pixel_hash(picture(5)),
        "width": 64,
        "height": 48,
    }
    assert record["pixels"] == {"barrier": 1536, "bicycle": 1536}
    assert record["seconds"] >= 0
    assert {"condense_ros", "python", "torch", "numpy"} <= set(record["versions"])
    named = np.asarray(Image.open(tmp_path / "out/labels/right/deep/5.png"))
    np.testing.assert_array_equal(named, made.labels)
    assert (tmp_path / "out/confidence/left/0.png").is_file()
    assert json.loads((tmp_path / "out/records/left/0.json").read_text())["labeler"] == "halves"


def test_finished_images_are_left_alone_and_damaged_labels_made_again(
    pictures: Path, tmp_path: Path, halves: Any
) -> None:
    out = tmp_path / "out"
    label(pictures, out, halves(Halves()))
    before = content(out)
    labeler = Halves()
    again = label(pictures, out, halves(labeler))
    assert (again.images, again.made, labeler.calls) == (6, 0, [])
    # one file torn, one missing
    key = LabelFolder(out).header.key(pixel_hash(picture(1)))
    torn = storing.object_path(out, key, ".png")
    torn.write_bytes(torn.read_bytes()[:-20])
    lost = LabelFolder(out).header.key(pixel_hash(picture(4)))
    storing.object_path(out, lost, ".json").unlink()
    assert label(pictures, out, halves(labeler)).made == 2
    assert labeler.calls == ["left/1", "right/deep/4"]
    assert content(out) == before


def test_the_same_picture_is_labelled_once(pictures: Path, tmp_path: Path, halves: Any) -> None:
    Image.fromarray(picture(0)).save(pictures / "copy.bmp")
    labeler = Halves()
    report = label(pictures, tmp_path / "out", halves(labeler))
    assert (report.images, report.made) == (7, 6)
    first, second = ((tmp_path / "out/labels" / name) for name in ("copy.png", "left/0.png"))
    assert first.read_bytes() == second.read_bytes()


def test_labels_are_taken_over_from_another_folder(
    pictures: Path, tmp_path: Path, halves: Any
) -> None:
    config = halves(Halves())
    label(pictures, tmp_path / "first", config)
    labeler = Halves()
    halves(labeler)
    config = LabelConfig(labeler="halves", reuse=(str(tmp_path / "first"),))
    report = label(pictures, tmp_path / "second", config)
    assert (report.adopted, report.made, labeler.calls) == (6, 0, [])
    assert content(tmp_path / "second") == content(tmp_path / "first")


def test_a_corrupt_image_does_not_stop_the_run(pictures: Path, tmp_path: Path, halves: Any) -> None:
    out = tmp_path / "out"
    whole = (pictures / "left/1.png").read_bytes()
    (pictures / "left/1.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "left/2.png").write_bytes(b"")
    config = halves(Halves(LabelError("eyes shut", "open them"), when="deep/4"))
    report = label(pictures, out, config)
    assert report.images == 3
    listed = json.loads((out / "errors.json").read_text())
    assert [entry["image"] for entry in listed] == ["left/1.png", "left/2.png", "right/deep/4"]
    assert "left/1.png is not a readable image" in listed[0]["reason"]
    assert "eyes shut" in listed[2]["reason"]
    # repaired, the same command finishes, and the list is gone
    (pictures / "left/1.png").write_bytes(whole)
    Image.fromarray(picture(2)).save(pictures / "left/2.png")
    report = label(pictures, out, halves(Halves()))
    assert (report.images, report.made, report.failed) == (6, 3, [])
    assert not (out / "errors.json").exists()


def test_too_many_failures_stop_the_run(pictures: Path, tmp_path: Path, halves: Any) -> None:
    labeler = Halves(RuntimeError("no memory"))
    halves(labeler)
    config = LabelConfig(labeler="halves", max_failures=2)
    with pytest.raises(LabelError, match=r"3 images cannot be labelled.*no memory"):
        label(pictures, tmp_path / "out", config)
    assert len(labeler.calls) == 3
    labeler = Halves(StorageFull("no room", "make some"))
    with pytest.raises(StorageFull):
        label(pictures, tmp_path / "out", halves(labeler))
    assert len(labeler.calls) == 1


def test_labels_that_fit_neither_image_nor_ontology_are_refused(
    pictures: Path, tmp_path: Path, halves: Any
) -> None:
    class Wrong(Halves):
        def label(self, image: SourceImage) -> LabelImage:
            made = super().label(image)
            if image.name == "left/0":
                return LabelImage(made.labels[1:], made.confidence[1:])
            if image.name == "left/1":
                return LabelImage(made.labels + np.uint8(12), made.confidence)
            return made

    report = label(pictures, tmp_path / "out", halves(Wrong()))
    assert [entry["image"] for entry in report.failed] == ["left/0", "left/1"]
    assert "a labeler keeps the size" in report.failed[0]["reason"]
    assert "13 classes" in report.failed[1]["reason"]


def test_two_shards_make_what_one_run_makes(pictures: Path, tmp_path: Path) -> None:
    one = label(pictures, tmp_path / "one", CONFIG)
    two = [label(pictures, tmp_path / "two", CONFIG, shard=Shard(i, 2)) for i in (0, 1)]
    assert [report.images for report in two] == [3, 3]
    assert not set(two[0].names) & set(two[1].names)
    assert {*two[0].names, *two[1].names} == set(one.names)
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_two_shards_at_once_share_one_fit(pictures: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from condense_training.labels.run import label, LabelConfig\n"
        "from condense_training.labels.shards import which_shard\n"
        f"label({str(pictures)!r}, {str(tmp_path / 'two')!r}, LabelConfig(settings={HANDMADE!r}),"
        " shard=which_shard())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"},
            cwd=ROOT,
        )
        for rank in "01"
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    label(pictures, tmp_path / "one", CONFIG)
    assert content(tmp_path / "two") == content(tmp_path / "one")


#: labels slowly and says when an image is done, so that a kill falls into the middle
SLOW = """
import sys, time
from condense_training.labels.labelers import clusters
from condense_training.labels.run import LabelConfig, label
label_one = clusters.ClustersLabeler.label
def slow(self, image):
    made = label_one(self, image)
    time.sleep(0.25)
    return made
clusters.ClustersLabeler.label = slow
label(sys.argv[1], sys.argv[2], LabelConfig(settings=eval(sys.argv[3])),
      progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_and_resumed_the_bytes_are_those_of_one_run(
    pictures: Path, tmp_path: Path, kills: int
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, str(pictures), str(out), repr(HANDMADE)]
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1 * number)  # not always at the same point of the next image
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    done = len(list((out / "objects").rglob("*.json")))
    assert 0 < done < 6
    assert not list(out.glob("report*"))
    report = label(pictures, out, CONFIG)
    assert report.images == 6
    assert report.made <= 6 - done + 1
    label(pictures, tmp_path / "whole", CONFIG)
    assert {k: v for k, v in content(out).items() if not k.endswith(".tmp")} == content(
        tmp_path / "whole"
    )


def test_other_settings_and_classes_are_refused(
    pictures: Path, tmp_path: Path, halves: Any
) -> None:
    out = tmp_path / "out"
    labeler = Halves()
    label(pictures, out, halves(labeler))
    other = Halves()
    other.identity = {"halves": 2}
    with pytest.raises(LabelError, match="another settings"):
        label(pictures, out, halves(other))
    other = Halves()
    other.ontology = LabelOntology.load("nuscenes_16")
    with pytest.raises(LabelError, match="another ontology"):
        label(pictures, out, halves(other))
    with pytest.raises(LabelError, match="another labeler"):
        label(pictures, out, CONFIG)
    # and by those who read
    assert LabelFolder(out, LabelOntology.load("olivine_13")).has(picture(0))
    with pytest.raises(LabelError, match="not of 'nuscenes_16'"):
        LabelFolder(out, LabelOntology.load("nuscenes_16"))


def test_files_from_elsewhere_are_refused(pictures: Path, tmp_path: Path, halves: Any) -> None:
    out = tmp_path / "out"
    label(pictures, out, halves(Halves()))
    folder = LabelFolder(out)
    with pytest.raises(LabelError, match="no labels at"):
        folder.read(picture(77))
    assert not folder.has(picture(77))
    key = folder.header.key(pixel_hash(picture(0)))
    record = storing.object_path(out, key, ".json")
    intact = record.read_text()
    changed = json.loads(intact)
    changed["ontology_hash"] = "0" * 12
    record.write_text(json.dumps(changed))
    with pytest.raises(LabelError, match="are of ontology 000000000000"):
        folder.read(picture(0))
    record.write_text(intact)
    image = storing.object_path(out, key, ".png")
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(LabelError, match="damaged"):
        folder.read(picture(0))
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(image)
    with pytest.raises(LabelError, match=r"\(3, 3\)"):
        folder.read(picture(0))
    header = json.loads((out / "labels.json").read_text())
    header["ontology"]["classes"][0]["name"] = "fence"
    (out / "labels.json").write_text(json.dumps(header))
    with pytest.raises(LabelError, match="edited"):
        LabelFolder(out)
    for text in ("{", '{"format": "condense-labels-9"}', "[]"):
        (out / "labels.json").write_text(text)
        with pytest.raises(LabelError, match=r"labels\.json"):
            LabelFolder(out)


def test_the_key_depends_on_image_labeler_and_ontology() -> None:
    ontology = LabelOntology.load("olivine_13")
    header = LabelHeader("a", {"x": 1}, ontology)
    keys = {
        header.key("1" * 64),
        header.key("2" * 64),
        LabelHeader("b", {"x": 1}, ontology).key("1" * 64),
        LabelHeader("a", {"x": 2}, ontology).key("1" * 64),
        LabelHeader("a", {"x": 1}, LabelOntology.load("nuscenes_16")).key("1" * 64),
    }
    assert len(keys) == 5
    assert all(len(key) == 32 for key in keys)
    reshaped = np.arange(24, dtype=np.uint8)
    assert pixel_hash(reshaped.reshape(2, 4, 3)) != pixel_hash(reshaped.reshape(4, 2, 3))


def test_without_links_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path, halves: Any
) -> None:
    def no_links(*_: object) -> None:
        raise OSError("no links on this file system")

    monkeypatch.setattr(os, "link", no_links)
    label(pictures, tmp_path / "out", halves(Halves()))
    assert (tmp_path / "out/labels/left/0.png").stat().st_nlink == 1
    assert (tmp_path / "out/labels/left/0.png").stat().st_size > 0


def test_a_full_disk_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ontology = LabelOntology.load("olivine_13")
    store = LabelStore(tmp_path, LabelHeader("a", {}, ontology))
    write = storing.write_atomically
    written: list[Path] = []

    def second_fails(path: Path, data: bytes | str, **options: str) -> None:
        written.append(path)
        if len(written) == 2:
            raise StorageFull("no room", "make some")
        write(path, data, **options)

    monkeypatch.setattr(storing, "write_atomically", second_fails)
    made = LabelImage(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.float32))
    with pytest.raises(StorageFull):
        store.put("ab" * 16, made, {})
    assert not store.has("ab" * 16)
    assert not store.path("ab" * 16, ".json").exists()


def test_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert which_shard("1/4") == Shard(1, 4)
    assert list(Shard(1, 4).rows(10)) == [1, 5, 9]
    assert sorted(n for i in range(4) for n in Shard(i, 4).rows(10)) == list(range(10))
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert which_shard() == Shard(2, 3)
    assert which_shard("0/1") == Shard()
    for text in ("4/4", "1", "a/b", "-1/2"):
        with pytest.raises(ConfigError, match="shard"):
            which_shard(text)
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(ConfigError, match="RANK"):
        which_shard()


def test_ray_is_asked_for_when_wanted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match="ray is not installed"):
        label_on_ray(pictures, tmp_path / "out", CONFIG, 2)


class FakeRay(types.ModuleType):
    """Runs tasks where they are asked for; what they get and return must be picklable."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.tasks: list[int] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, **_: object) -> None: ...

    def shutdown(self) -> None: ...

    def remote(self, **options: float) -> Any:
        assert options == {"num_gpus": 0.0}

        def wrap(function: Any) -> Any:
            def task(*arguments: object) -> int:
                again = pickle.loads(pickle.dumps(arguments))
                self.results.append(pickle.loads(pickle.dumps(function(*again))))
                return len(self.results) - 1

            self.results: list[Any] = []
            return types.SimpleNamespace(remote=task)

        return wrap

    def wait(self, waiting: list[int], num_returns: int) -> tuple[list[int], list[int]]:
        return waiting[-num_returns:], waiting[:-num_returns]

    def get(self, reference: int) -> Any:
        return self.results[reference]


def test_shards_as_tasks_of_ray(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    seen: list[tuple[int, int]] = []
    out = tmp_path / "ray"
    report = label_on_ray(
        pictures, out, CONFIG, 3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    one = label(pictures, tmp_path / "one", CONFIG)
    assert (report.images, report.made, report.pixels) == (6, 6, one.pixels)
    assert report.names == sorted(one.names)
    assert content(out) == content(tmp_path / "one")
    with pytest.raises(LabelError, match="other settings"):
        label_on_ray(pictures, out, LabelConfig(settings={**HANDMADE, "groups": 5}), 2)


def test_folders_of_pictures(pictures: Path, tmp_path: Path) -> None:
    (pictures / ".hidden").mkdir()
    Image.fromarray(picture(9)).save(pictures / ".hidden/9.png")
    source = open_images(pictures, stride=2)
    assert [source.describe(i) for i in range(len(source))] == [
        "left/0.png",
        "left/2.png",
        "right/deep/4.png",
    ]
    (image,) = source.images(2)
    assert image.fields == {"camera": "deep", "index": 2, "folder": "right/deep", "stem": "4"}
    assert len(open_images(pictures, limit=1)) == 1
    Image.fromarray(picture(9)).save(pictures / "left/0.jpg")
    with pytest.raises(DatasetError, match="left/0"):
        open_images(pictures)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no data set"):
        open_images(tmp_path / "empty")


def test_the_page_shows_labels_and_failures(pictures: Path, tmp_path: Path) -> None:
    (pictures / "left/1.png").write_bytes(b"")
    report = label(pictures, tmp_path / "out", CONFIG)
    text = write_report(open_images(pictures), report, images=4).read_text()
    # one of the four is the broken one
    assert text.count("data:image/jpeg;base64,") == 3
    assert "left/1.png" in text
    assert "http" not in text
    assert "group 0" in text


def test_remarks_about_odd_labels(tmp_path: Path) -> None:
    report = LabelReport(tmp_path)
    assert remarks(report) == ["no image was labelled"]
    report.pixels.update({"road": 97, "car": 3})
    assert remarks(report) == ["97 % of all pixels are road"]
    report.pixels.update({"no class": 900})
    assert remarks(report) == ["90 % of all pixels have no class"]
    report.pixels.update({"car": 900})
    assert remarks(report) == []


def test_command_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    settings = [part for k, v in HANDMADE.items() for part in ("-p", f"{k}={v}")]
    command = ["label", str(pictures), "--out", str(out), "--pictures", "2", *settings]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "6 labelled now" in result.output
    assert (out / "report.html").is_file()
    result = CliRunner().invoke(app, [*command, "--shard", "0/2"])
    assert result.exit_code == 0, result.output
    assert "3 were there" in result.output
    assert (out / "report-0-of-2.html").is_file()

    (pictures / "left/1.png").write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 3
    assert "left/1.png" in capsys.readouterr().err
    for wrong, status in (
        (["label"], 2),
        (["label", str(pictures), "--labeler", "magic"], 2),
        (["label", str(tmp_path / "none"), "--out", str(out)], 1),
        ([*command, "--ray", "2", "--shard", "0/2"], 2),
        ([*command, "-p", "groups=1"], 2),
        ([*command, "-p", "groups=5"], 1),
        ([*command, "--ontology", "nuscenes_16"], 2),
        ([*command, "--max-failures", "0"], 1),
    ):
        with pytest.raises(SystemExit) as end:
            main(wrong)
        assert end.value.code == status, wrong
        assert "fix:" in capsys.readouterr().err


def test_parameters_of_every_labeler_are_listed() -> None:
    for name in ("clusters", "grounded_sam", "sam3", "semseg", "segment_anything", "precomputed"):
        result = CliRunner().invoke(app, ["label", "--labeler", name, "--parameters"])
        assert result.exit_code == 0, result.output
        assert LABELERS[name].checkpoint in result.output
