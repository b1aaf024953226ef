"""Classes of labels: files, hash, what is refused, maps of other ids."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from condense_ros.errors import ConfigError
from condense_training.labels.id_maps import SHIPPED as MAPS
from condense_training.labels.id_maps import IdMap
from condense_training.labels.ontology import SHIPPED, LabelClass, LabelOntology


@pytest.mark.parametrize(
    ("name", "classes"), [*zip(SHIPPED, (16, 19, 13, 19, 13, 32, 4), strict=True)]
)
def test_shipped_ontologies(name: str, classes: int) -> None:
    ontology = LabelOntology.load(name)
    assert len(ontology) == len(ontology.drawing) == classes
    assert ontology.name == name
    assert LabelOntology.from_dict(ontology.to_dict()) == ontology
    assert {prompt.class_id for prompt in ontology.prompts} == set(range(classes))
    assert 0 < ontology.things.sum() < classes


def test_the_names_of_olivines_prompt() -> None:
    names = [prompt.text for prompt in LabelOntology.load("olivine_13").prompts]
    assert ". ".join(names) == (
        "barrier. bicycle. bus. car. motorcycle. pedestrian. traffic cone. truck. road. sidewalk. "
        "terrain. vegetation. building"
    )


def test_hash_changes_with_whatever_changes_labels() -> None:
    plain = LabelOntology.load("olivine_13")
    first, *rest = plain.classes
    others = [
        replace(plain, name="other"),
        replace(plain, classes=(*rest, first)),
        replace(plain, classes=(replace(first, name="fence"), *rest)),
        replace(plain, classes=(replace(first, prompts=("fence",)), *rest)),
        replace(plain, classes=(replace(first, thing=False), *rest)),
        replace(plain, classes=(replace(first, colour="#000000"), *rest)),
    ]
    hashes = {plain.hash(), *(other.hash() for other in others)}
    assert len(hashes) == 7
    assert all(len(text) == 12 for text in hashes)
    assert LabelOntology.load("olivine_13").hash() == plain.hash()
    # one that is written down: labels on disk depend on it
    two = LabelOntology("two", (LabelClass("a", ("b",)), LabelClass("c", (), False, "#010203")))
    assert two.hash() == "c11630dac282"


def test_a_file_in_any_order(tmp_path: Path) -> None:
    content = LabelOntology.load("olivine_13").to_dict()
    content["classes"].reverse()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    assert LabelOntology.load(tmp_path / "mine.yaml") == LabelOntology.load("olivine_13")


def spoil(**change: object) -> dict:
    content = copy.deepcopy(LabelOntology.load("olivine_13").to_dict())
    content["classes"][3].update(change)
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (spoil(id=2), "ids"),
        (spoil(id=255), "ids"),
        (spoil(id=True), "True"),
        (spoil(name="bus"), "repeat"),
        (spoil(kind="both"), "both"),
        (spoil(colour="red"), "red"),
        (spoil(prompts=["Car"]), "Car"),
        (spoil(prompts=["car. bus"]), "car. bus"),
        (spoil(prompts=[" car"]), "car"),
        (spoil(prompts=["bus"]), "bus"),
        (spoil(prompts="car"), "car"),
        (spoil(wheels=4), "wheels"),
        ({"name": "empty", "classes": []}, "at least one"),
        ({"name": "", "classes": [{"id": 0, "name": "a", "kind": "thing"}]}, "name"),
        ({"classes": []}, "classes"),
    ],
)
def test_what_is_refused(content: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        LabelOntology.from_dict(content)


def test_files_that_are_refused(tmp_path: Path) -> None:
    for name, text in (("list.yaml", "[1]"), ("torn.yaml", "a: [")):
        (tmp_path / name).write_text(text)
        for reader in (LabelOntology.load, IdMap.load):
            with pytest.raises(ConfigError, match=name):
                reader(tmp_path / name)
    for reader, known in ((LabelOntology.load, "nuscenes_16"), (IdMap.load, "olivine_seem")):
        with pytest.raises(ConfigError, match=known):
            reader("none")


def test_groups_differ_by_name_and_in_colour() -> None:
    groups = LabelOntology.groups("a", 255)
    assert groups.hash() != LabelOntology.groups("b", 255).hash()
    assert len({one.colour for one in LabelOntology.groups("a", 64).classes}) == 64
    assert not groups.prompts


@pytest.mark.parametrize("name", MAPS)
def test_shipped_maps_fit_an_ontology(name: str) -> None:
    id_map = IdMap.load(name)
    fitting = {"olivine_grounded_sam": "olivine_13", "semantickitti": "semantickitti_19"}
    ontology = LabelOntology.load(fitting.get(name, "nuscenes_16"))
    table = id_map.id_table(ontology)
    assert table[255] == 255
    assert ((table >= -1) & ((table < len(ontology)) | (table == 255))).all()


def test_ids_of_olivines_files() -> None:
    ontology = LabelOntology.load("olivine_13")
    table = IdMap.load("olivine_grounded_sam").id_table(ontology)
    # 0 is background, then the prompt's order
    assert table[:14].tolist() == [255, *range(13)]
    assert (table[14:255] == -1).all()
    seem = IdMap.load("olivine_seem").id_table(LabelOntology.load("nuscenes_16"))
    assert seem[0] == 255  # barrier, and everything unlabelled
    assert LabelOntology.load("nuscenes_16").classes[seem[14]].name == "manmade"


def test_names_of_a_model() -> None:
    ontology = LabelOntology.load("nuscenes_16")
    names = {0: "Car", 1: "sky", 2: "road", 3: "wall", 4: "unheard of"}
    table = IdMap("mine", names={"wall": "manmade", "sky": "ignore"}).name_table(names, ontology)
    # by class name, by map, by prompt, by map, by nothing
    assert table.tolist() == [3, 255, 10, 14, 255]
    assert table.dtype == np.int64
    with pytest.raises(ConfigError, match="unheard of"):
        IdMap("mine").name_table({0: "unheard of"}, ontology)
    with pytest.raises(ConfigError, match="palace"):
        IdMap("mine", names={"car": "palace"}).name_table({0: "car"}, ontology)


@pytest.mark.parametrize(
    "content", ["ids: {0: car}", "name: a\nids: [1]", "name: a\nids: {b: c}", "name: a\nmore: 1"]
)
def test_maps_that_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "map.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"map\.yaml"):
        IdMap.load(tmp_path / "map.yaml")
