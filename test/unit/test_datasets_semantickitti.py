"""SemanticKITTI's layout and its relatives: folders, label maps, splits, poses, faults."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condense_ros.datasets import DataOptions, Dataset, every_kth, open_dataset
from condense_ros.datasets.kitti import KittiSequence
from condense_ros.datasets.point_labels import SHIPPED, PointLabels, read_ontology
from condense_ros.datasets.semantickitti import SemanticKitti
from condense_ros.errors import CalibrationMissing, ConfigError, DatasetError
from condense_ros.geometry import R_OPTICAL_BODY, inverse, se3
from condense_ros.resources import config_file
from condense_training.frames import FrameSource
from condense_training.labels.ontology import LabelOntology

T_CAM0_LIDAR = se3(R_OPTICAL_BODY, (0.1, -0.2, -0.3))


def text(values: np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in np.ravel(values))


def write_scan(
    folder: Path,
    stem: str,
    ids: np.ndarray,
    *,
    scans: str = "velodyne",
    labels: str = "labels",
    columns: int = 4,
) -> None:
    """A scan of one point per id at (row, 0, 0) with intensity 0.5, and its label file."""
    for name in (scans, labels):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = np.zeros((len(ids), columns), "<f4")
    rows[:, 0], rows[:, 3], rows[:, 4:] = np.arange(len(ids)), 0.5, 7
    rows.tofile(folder / scans / f"{stem}.bin")
    instances = np.arange(len(ids), dtype=np.uint32) << 16
    (np.asarray(ids, np.uint32) | instances).astype("<u4").tofile(folder / labels / f"{stem}.label")


def add_camera(folder: Path, stems: list[str]) -> None:
    K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    calibration = f"P2: {text(np.c_[K, np.zeros(3)])}\nTr: {text(T_CAM0_LIDAR[:3])}\n"
    (folder / "calib.txt").write_text(calibration)
    (folder / "image_2").mkdir()
    for stem in stems:
        pixels = np.full((48, 64, 3), int(stem), np.uint8)
        Image.fromarray(pixels).save(folder / "image_2" / f"{stem}.png")
    poses = [se3(np.eye(3), (0, 0, 1.5 * i)) for i in range(len(stems))]
    (folder / "poses.txt").write_text("\n".join(text(T[:3]) for T in poses))
    (folder / "times.txt").write_text("\n".join(f"{0.103 * i:.6e}" for i in range(len(stems))))


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Sequences 00 to 10 of three scans each; labels, camera and poses in 08 and labels in 00."""
    root = tmp_path / "kitti"
    for number in range(11):
        for scan in range(3):
            folder = root / "dataset" / "sequences" / f"{number:02d}"
            write_scan(folder, f"{scan:06d}", np.array([0, 10, 252, 60, 48, 99, 81]))
    add_camera(root / "dataset" / "sequences" / "08", ["000000", "000001", "000002"])
    return root


def test_frames_of_semantickitti(kitti: Path) -> None:
    data = open_dataset(f"{kitti}?label_map=semantickitti&split=val")
    assert isinstance(data, SemanticKitti)
    assert isinstance(data, Dataset)
    assert len(data) == 3
    assert data.period_s == pytest.approx(0.103)
    frame = data[1]
    assert (frame.sequence, frame.index) == ("08", 1)
    assert frame.stamp_ns - data[0].stamp_ns == 103_000_000
    names = [data.classes.names[i] if i != 255 else None for i in frame.labels]
    assert names == [None, "car", "car", "road", "sidewalk", None, "traffic-sign"]
    assert frame.cloud.xyz[3].tolist() == [3, 0, 0]
    assert frame.cloud.intensity[0] == np.float32(0.5)
    assert frame.images[0].pixels[0, 0, 0] == 1
    np.testing.assert_allclose(frame.images[0].T_cam_lidar, T_CAM0_LIDAR, atol=1e-12)
    # camera 0 moves along its z, the lidar along its x
    np.testing.assert_allclose(
        inverse(data[0].T_world_lidar) @ frame.T_world_lidar, se3(np.eye(3), (1.5, 0, 0)), atol=1e-9
    )
    np.testing.assert_array_equal(data.poses[1], frame.T_world_lidar)
    with pytest.raises(IndexError):
        data[3]


def test_splits_drives_and_shares(kitti: Path) -> None:
    train = open_dataset(f"{kitti}?label_map=semantickitti&split=train&images=no")
    frames = [train[i] for i in range(len(train))]
    assert [(f.sequence, f.index) for f in frames] == [
        (f"{number:02d}", scan) for number in range(11) if number != 8 for scan in range(3)
    ]
    stamps = np.diff([f.stamp_ns for f in frames])
    assert (stamps > 0).all()
    assert train.poses is None
    assert any("origin" in note for note in frames[0].notes)
    # every k-th of the sorted list of all scans, from the first on
    part = open_dataset(f"{kitti}?label_map=semantickitti&split=train&fraction=0.25")
    assert [(f.sequence, f.index) for f in map(part.__getitem__, range(len(part)))] == [
        (f.sequence, f.index) for f in frames[::4]
    ]
    assert every_kth(train, 0.25) == list(range(0, 30, 4))
    assert len(open_dataset(f"{kitti}?label_map=semantickitti&drives=03,04")) == 6
    assert len(open_dataset(kitti, DataOptions(label_map="semantickitti", drives=("03",)))) == 3
    with pytest.raises(DatasetError, match="lacks the sequences 21"):
        open_dataset(f"{kitti}?drives=21")
    with pytest.raises(DatasetError, match="lacks the sequences 11, 12"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=test")
    with pytest.raises(DatasetError, match="none of the drives 00"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=val&drives=00")
    with pytest.raises(ConfigError, match="no split 'dev' of SemanticKITTI"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=dev")
    with pytest.raises(ConfigError, match="choose a label map"):
        open_dataset(f"{kitti}?split=val")


def test_without_a_label_map_nothing_is_labelled_and_that_is_said(kitti: Path) -> None:
    data = open_dataset(kitti / "dataset")
    assert len(data) == 33
    assert data.classes is None
    frame = data[0]
    assert frame.labels is None
    assert any("label_map" in note for note in frame.notes)
    # the camera of 08 is there for pretraining
    assert len(open_dataset(f"{kitti}?drives=08")[0].images) == 1


def test_a_file_in_the_folder_chooses(kitti: Path) -> None:
    (kitti / "condense.yaml").write_text("label_map: semantickitti\nsplit: val\n")
    assert len(open_dataset(kitti)) == 3
    assert len(open_dataset(f"{kitti}?split=train")) == 30
    assert open_dataset(f"{kitti}?split=train").classes is not None
    (kitti / "condense.yaml").write_text("label_maps: semantickitti\n")
    with pytest.raises(ConfigError, match=r"condense\.yaml.*label_maps"):
        open_dataset(kitti)
    (kitti / "condense.yaml").write_text("fraction: 2.0\n")
    with pytest.raises(ConfigError, match="out of range"):
        open_dataset(kitti)
    (kitti / "condense.yaml").write_text("[1")
    with pytest.raises(ConfigError, match="no YAML"):
        open_dataset(kitti)


def test_a_single_sequence_is_read_with_a_label_map(kitti: Path) -> None:
    folder = kitti / "dataset" / "sequences" / "08"
    assert isinstance(open_dataset(folder), KittiSequence)
    data = open_dataset(f"{folder}?label_map=semantickitti")
    assert isinstance(data, SemanticKitti)
    assert (len(data), data[0].sequence) == (3, "08")
    assert data.poses is not None
    with pytest.raises(ConfigError, match="does not take split"):
        open_dataset(f"{folder}?split=val")


def test_poses_beside_the_sequences(kitti: Path) -> None:
    folder = kitti / "dataset" / "sequences" / "08"
    before = open_dataset(f"{kitti}?drives=08").poses
    (kitti / "dataset" / "poses").mkdir()
    (folder / "poses.txt").rename(kitti / "dataset" / "poses" / "08.txt")
    np.testing.assert_array_equal(open_dataset(f"{kitti}?drives=08").poses, before)
    (kitti / "dataset" / "poses" / "08.txt").write_text(text(np.eye(4)[:3]))
    with pytest.raises(DatasetError, match="1 poses for scans numbered up to 2"):
        open_dataset(f"{kitti}?drives=08")


def test_lidar_alone_is_enough(kitti: Path) -> None:
    data = open_dataset(f"{kitti}?label_map=semantickitti&drives=00")
    assert data.poses is None
    assert data[0].images == ()
    assert data.period_s == pytest.approx(0.1)
    assert data[2].stamp_ns - data[0].stamp_ns == 200_000_000


@pytest.mark.parametrize("images", ["yes", "no"])
def test_calibration_is_never_guessed(kitti: Path, images: str) -> None:
    (kitti / "dataset" / "sequences" / "08" / "calib.txt").unlink()
    # without images, the poses of the camera still need it
    with pytest.raises(CalibrationMissing, match=r"calib\.txt"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=val&images={images}")


def test_wrong_maps_are_refused_at_once(kitti: Path) -> None:
    with pytest.raises(DatasetError, match=r"semanticposs|SemanticPOSS") as caught:
        open_dataset(f"{kitti}?label_map=semanticposs&drives=00")
    assert "48 (1 points)" in caught.value.problem
    assert "label_map=NAME" in caught.value.fix
    with pytest.raises(ConfigError, match="no label map 'kitty'"):
        open_dataset(f"{kitti}?label_map=kitty")
    with pytest.raises(DatasetError, match="scribbles/"):
        open_dataset(f"{kitti}?label_map=scribblekitti&split=train")


def test_damage_is_named(kitti: Path) -> None:
    data = open_dataset(f"{kitti}?label_map=semantickitti&split=val")
    folder = kitti / "dataset" / "sequences" / "08"
    scan, labels = folder / "velodyne" / "000001.bin", folder / "labels" / "000001.label"
    whole = scan.read_bytes()
    scan.write_bytes(whole[:-3])
    with pytest.raises(DatasetError, match=r"000001\.bin has 109 bytes, no multiple of 16"):
        data[1]
    with pytest.raises(DatasetError, match=r"000001\.bin has 109 bytes, no multiple of 16"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=val")
    scan.write_bytes(whole[:-16])
    with pytest.raises(DatasetError, match=r"000001\.label has 7 labels for 6 points"):
        data[1]
    scan.write_bytes(whole)
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"000001\.label has 27 bytes"):
        data[1]
    np.full(7, 77, "<u4").tofile(labels)
    with pytest.raises(DatasetError, match=r"000001\.label has ids .*77 \(7 points\)"):
        data[1]
    labels.unlink()
    with pytest.raises(DatasetError, match=r"000001\.label cannot be read"):
        data[1]
    (folder / "image_2" / "000002.png").unlink()
    with pytest.raises(DatasetError, match=r"000002\.png"):
        data[2]
    (folder / "times.txt").write_text("0.0\n")
    with pytest.raises(DatasetError, match="1 times"):
        open_dataset(f"{kitti}?label_map=semantickitti&split=val")


def test_scans_without_labels_among_labelled_sequences(kitti: Path) -> None:
    sequences = kitti / "dataset" / "sequences"
    shutil.rmtree(sequences / "00" / "labels")
    data = open_dataset(f"{kitti}?label_map=semantickitti&drives=00,01")
    assert data[0].labels is None
    assert data[3].labels is not None


def test_scribbles_lie_beside_the_labels(kitti: Path) -> None:
    folder = kitti / "dataset" / "sequences" / "00"
    for stem in ("000000", "000001", "000002"):
        write_scan(folder, stem, np.array([0, 0, 0, 40, 0, 0, 0]), labels="scribbles")
    data = open_dataset(f"{kitti}?label_map=scribblekitti&drives=00")
    assert (data[0].labels != 255).sum() == 1
    full = open_dataset(f"{kitti}?label_map=semantickitti&drives=00")
    assert (full[0].labels != 255).sum() == 5


def test_rellis3d(tmp_path: Path) -> None:
    names = {
        "scans": "os1_cloud_node_kitti_bin",
        "labels": "os1_cloud_node_semantickitti_label_id",
    }
    for sequence in ("00000", "00001"):
        for scan in (0, 5, 9):
            write_scan(tmp_path / sequence, f"{scan:06d}", np.array([0, 1, 3, 34]), **names)
    # a calibration and poses of another make than KITTI's: not read
    (tmp_path / "00000" / "calib.txt").write_text("Tr: 1\n")
    (tmp_path / "00000" / "poses.txt").write_text("1 2\n")
    line = "{0}/{scans}/{1}.bin {0}/{labels}/{1}.label\n"
    listed = [("00001", "000009"), ("00000", "000005"), ("00001", "000000")]
    (tmp_path / "pt_train.lst").write_text("".join(line.format(*one, **names) for one in listed))
    data = open_dataset(f"{tmp_path}?label_map=rellis3d&split=train")
    frames = [data[i] for i in range(len(data))]
    assert [(f.sequence, f.index) for f in frames] == [("00000", 5), ("00001", 0), ("00001", 9)]
    assert [data.classes.names[i] for i in frames[0].labels[1:]] == ["dirt", "grass", "rubble"]
    assert frames[0].labels[0] == 255
    assert open_dataset(f"{tmp_path}?label_map=rellis3d&drives=00000").poses is None
    assert open_dataset(tmp_path).classes is None
    with pytest.raises(DatasetError, match=r"pt_val\.lst, the list of split val, is missing"):
        open_dataset(f"{tmp_path}?label_map=rellis3d&split=val")
    (tmp_path / "pt_val.lst").write_text(line.format("00000", "000777", **names))
    with pytest.raises(DatasetError, match=r"first is 000777\.bin"):
        open_dataset(f"{tmp_path}?label_map=rellis3d&split=val")
    (tmp_path / "pt_val.lst").write_text("00000/000005.bin\n")
    with pytest.raises(DatasetError, match="mixes names and paths"):
        open_dataset(f"{tmp_path}?label_map=rellis3d&split=val")
    (tmp_path / "pt_val.lst").write_text("00001\n")
    assert len(open_dataset(f"{tmp_path}?label_map=rellis3d&split=val")) == 3


def test_semanticstf_has_a_fifth_column(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_scan(tmp_path / split, "000007", np.array([0, 1, 19, 20, 9]), columns=5)
    data = open_dataset(f"{tmp_path}?label_map=semanticstf&split=val")
    assert data[0].sequence == "val"
    names = [data.classes.names[i] if i != 255 else None for i in data[0].labels]
    assert names == [None, "car", "traffic-sign", None, "road"]
    assert data[0].cloud.ring.tolist() == [7] * 5
    assert data[0].cloud.xyz[4].tolist() == [4, 0, 0]
    # read as four columns it would be nonsense: refused by its size
    with pytest.raises(DatasetError, match="have not 4 columns"):
        open_dataset(tmp_path)


def test_semanticposs_and_synlidar(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / "poss" / "sequences" / f"{number:02d}"
        write_scan(folder, "000001", np.array([0, 4, 5, 12, 22]))
    poss = f"{tmp_path / 'poss'}?label_map=semanticposs&split="
    names = open_dataset(poss + "val").classes.names
    frame = open_dataset(poss + "val")[0]
    assert frame.sequence == "02"
    assert [names[i] for i in frame.labels[1:]] == ["person", "person", "traffic-sign", "ground"]
    assert [len(open_dataset(poss + split)) for split in ("train", "half", "val")] == [5, 2, 1]

    for number in range(13):
        write_scan(tmp_path / "syn" / f"{number:02d}", "000000", np.array([0, 2, 13, 19, 32]))
    own = open_dataset(f"{tmp_path / 'syn'}?label_map=synlidar&split=train")
    assert len(own) == 13
    assert own[0].labels.tolist() == [255, 1, 12, 18, 31]
    other = open_dataset(f"{tmp_path / 'syn'}?label_map=synlidar_as_semantickitti&drives=00")
    kitti = read_ontology("semantickitti_19")
    assert other.classes == kitti
    expected = [255, kitti.index("truck"), kitti.index("person"), 255, 255]
    assert other[0].labels.tolist() == expected


def test_daps3d_has_folders_of_other_names(tmp_path: Path) -> None:
    for name in ("38-18_7_72_90", "42-48_10_78_90", "44-18_11_15_32"):
        folder = tmp_path / "daps-2" / "data" / name
        for stem in ("scan_b", "scan_a"):
            write_scan(folder, stem, np.array([0, 10, 31, 72, 70]), scans="clouds")
    data = open_dataset(f"{tmp_path / 'daps-2'}?label_map=daps3d&split=val")
    assert len(data) == 6
    assert [(data[i].sequence[:2], data[i].index) for i in (0, 1, 2)] == [
        ("38", 0),
        ("38", 1),
        ("42", 0),
    ]
    assert data[0].labels.tolist() == [255, 0, 1, 2, 3]
    assert len(open_dataset(f"{tmp_path / 'daps-2'}?label_map=daps3d&split=train")) == 2


def test_manifest_changes_with_what_is_read_and_not_with_the_place(
    kitti: Path, tmp_path: Path
) -> None:
    def manifest(root: Path, query: str) -> str:
        return FrameSource([Path(f"{root}?{query}")]).manifest_hash()

    base = "label_map=semantickitti&split=val"
    first = manifest(kitti, base)
    moved = shutil.copytree(kitti, tmp_path / "moved")
    assert manifest(moved, base) == first
    others = {
        manifest(kitti, query)
        for query in (
            "drives=08",
            "label_map=semantickitti&split=train",
            f"{base}&images=no",
            f"{base}&intensity_offset=1",
            f"{base}&fraction=0.5",
        )
    }
    assert len(others | {first}) == 6
    calibration = moved / "dataset" / "sequences" / "08" / "calib.txt"
    calibration.write_text(calibration.read_text().replace("50.0", "51.0"))
    assert manifest(moved, base) != first


def test_intensity_offset(kitti: Path) -> None:
    data = open_dataset(f"{kitti}?drives=00&intensity_offset=1")
    assert data[0].cloud.intensity.tolist() == [1.5] * 7


def test_options_of_a_path(kitti: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parameter 'labelmap'"):
        open_dataset(f"{kitti}?labelmap=semantickitti")
    with pytest.raises(ConfigError, match="not name=value"):
        open_dataset(f"{kitti}?semantickitti")
    with pytest.raises(ConfigError, match="images"):
        open_dataset(f"{kitti}?images=perhaps")
    with pytest.raises(ConfigError, match="fraction"):
        open_dataset(f"{kitti}?fraction=half")
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(f"{tmp_path / 'nothing'}?split=val")
    # a folder that is really called so has no options
    odd = tmp_path / "what?split=val"
    shutil.copytree(kitti / "dataset" / "sequences" / "00", odd)
    assert len(open_dataset(odd)) == 3


def test_real_drive_with_labels_in_place(tmp_path: Path, data_dir: Path) -> None:
    """A real scan and picture in the layout; its label ids are made up."""
    source = data_dir / "kitti_jam_camlidar"
    original = open_dataset(source)
    folder = tmp_path / "sequences" / "08"
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    stems = sorted(path.stem for path in (source / "velodyne").glob("*.bin"))[:2]
    for number, stem in enumerate(stems):
        (folder / "velodyne" / f"{number:06d}.bin").symlink_to(source / "velodyne" / f"{stem}.bin")
        (folder / "image_2" / f"{number:06d}.png").symlink_to(source / "image_02" / f"{stem}.png")
        np.full(len(original[number].cloud), 40, "<u4").tofile(
            folder / "labels" / f"{number:06d}.label"
        )
    shutil.copy(source / "calib.txt", folder)
    frame = open_dataset(f"{tmp_path}?label_map=semantickitti&split=val")[1]
    np.testing.assert_array_equal(frame.cloud.xyz, original[1].cloud.xyz)
    np.testing.assert_array_equal(frame.images[0].pixels, original[1].images[0].pixels)
    np.testing.assert_array_equal(frame.images[0].T_cam_lidar, original[1].images[0].T_cam_lidar)
    assert (frame.labels == 8).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_maps(name: str) -> None:
    labels = PointLabels.load(name)
    content = yaml.safe_load(config_file(f"point_labels/{name}.yaml").read_text())
    assert (config_file(f"point_labels/{name}.yaml").read_text()).count("Source:") == 1
    targets = set(labels.ids.values()) | set(labels.names.values())
    # every class can be met, apart from those that a foreign ontology has besides
    missing = set(labels.ontology.names) - targets
    assert missing == set()
    assert LabelOntology.load(content["ontology"]).drawing == labels.ontology
    for number, target in labels.ids.items():
        got = labels.map(np.array([number | 7 << 16], np.uint32), "one")
        assert got.dtype == np.uint8
        assert got[0] == (255 if target == "ignore" else labels.ontology.index(target))


def test_semantickitti_by_hand() -> None:
    """Training ids of the official file, 0 = none."""
    official = {0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8}
    official |= {40: 9, 44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16}
    official |= {72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5}
    official |= {258: 4, 259: 5}
    labels = PointLabels.load("semantickitti")
    assert set(labels.ids) == set(official)
    for number, train_id in official.items():
        expected = train_id - 1 if train_id else 255
        assert labels.table[number] == expected
    assert len(labels.splits["train"]) == 10


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_every_id_is_mapped_or_refused(raw: list[int]) -> None:
    labels = PointLabels.load("semanticposs")
    values = np.array(raw, np.uint32)
    low = [value % 65536 for value in raw]
    if set(low) <= set(labels.ids):
        expected = [labels.table[value] for value in low]
        assert labels.map(values, "it").tolist() == expected
    else:
        with pytest.raises(DatasetError, match="does not know"):
            labels.map(values, "it")


MAP = {"name": "mine", "ontology": "daps3d_4", "ids": {3: "human", 4: "ignore"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": {3: "dog"}}, "dog"),
        ({"ids": {70000: "human"}}, "16-bit"),
        ({"ids": {"a": "human"}}, "'a'"),
        ({"ids": {3: 1}}, "write `int: class name`"),
        ({"names": {"a": "dog"}}, "dog"),
        ({"ids": [1]}, "ids"),
        ({"columns": 3}, "below 4"),
        ({"columns": True}, "columns"),
        ({"odometry": "yes"}, "odometry"),
        ({"splits": {"train": 3}}, "train"),
        ({"scenes": {"train": "all"}}, "train"),
        ({"extra": 1}, "no label map"),
        ({"ontology": "nothing"}, "nothing"),
    ],
)
def test_maps_that_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MAP))
    assert PointLabels.load(path).table[3] == 1
    path.write_text(yaml.safe_dump({**MAP, **change}))
    with pytest.raises(ConfigError, match=words):
        PointLabels.load(path)


def test_an_ontology_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("name: mine\nclasses: [{id: 1, name: b}, {id: 0, name: a, colour: '#010203'}]")
    ontology = read_ontology(str(path))
    assert ontology.names == ("a", "b")
    assert ontology.colours[0].tolist() == [1, 2, 3]
    for wrong in ("classes: [{id: 1, name: a}]", "name: x", "[", "classes: 3", "3"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"classes\.yaml"):
            read_ontology(str(path))
