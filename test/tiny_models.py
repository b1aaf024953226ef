"""Checkpoints of a few hundred kilobytes with random weights, in the layout of the hub.

They are made from the architectures' own configuration classes and loaded by the code that loads
published weights. What they say is noise: tests check what is done with it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = (
    *("car", "van", "truck", "bus", "road", "street", "tree", "bush", "person", "traffic", "cone"),
    *("sign", "side", "##walk", "building", "grass", "pole", "barrier", "bicycle", "motorcycle"),
    *("pedestrian", "sidewalk", "terrain", "vegetation"),
)


def word_tokenizer(folder: Path) -> None:
    """BERT's tokenizer with its special ids and a few words."""
    transformers = pytest.importorskip("transformers")
    vocabulary = {f"[unused{i}]": i for i in range(1100)}
    names = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    names |= {".": 1012, "?": 1029} | {word: 1040 + i for i, word in enumerate(WORDS)}
    by_id = {i: token for token, i in vocabulary.items()} | {i: t for t, i in names.items()}
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in by_id.items()})
    tokenizer.save_pretrained(folder)


def grounding_dino(folder: Path, seed: int = 0, kind: str = "GroundingDino") -> Path:
    """Grounding DINO or MM-Grounding-DINO with one layer of everything."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], window_size=4,
        out_features=["stage1", "stage2", "stage3"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1,
        encoder_ffn_dim=32, encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=32,
        decoder_attention_heads=2, num_queries=20, num_feature_levels=4, encoder_n_points=2,
        decoder_n_points=2,
    )  # fmt: skip
    network = getattr(transformers, f"{kind}ForObjectDetection")(config)
    network.save_pretrained(folder)
    processor = transformers.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128}
    )
    processor.save_pretrained(folder)
    word_tokenizer(folder)
    return folder


def sam(folder: Path, seed: int = 0, kind: str = "Sam") -> Path:
    """SAM or SAM-HQ for images of 64 pixels."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    vision = getattr(transformers, f"{kind}VisionConfig")(
        hidden_size=16, output_channels=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=16,
        num_pos_feats=8,
    )  # fmt: skip
    prompt = getattr(transformers, f"{kind}PromptEncoderConfig")(
        hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4
    )
    more = {"vit_dim": 16} if kind == "SamHQ" else {}
    decoder = getattr(transformers, f"{kind}MaskDecoderConfig")(
        hidden_size=16, mlp_dim=16, num_hidden_layers=2, num_attention_heads=2,
        iou_head_hidden_dim=16, **more,
    )  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    processor = transformers.SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    )
    processor.save_pretrained(folder)
    return folder


STREET = ("road", "building", "sky", "car", "person", "vegetation", "pole", "truck")


def segformer(folder: Path, seed: int = 0, names: tuple[str, ...] = STREET) -> Path:
    """A semantic segmentation model."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8, mlp_ratios=[1, 1, 1, 1],
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    size = {"height": 64, "width": 96}
    transformers.SegformerImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def maskformer(folder: Path, seed: int = 0) -> Path:
    """A universal segmentation model (Mask2Former)."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=16, encoder_layers=2, decoder_layers=3, num_attention_heads=2,
        dim_feedforward=16, num_queries=6,
        id2label=dict(enumerate(STREET)), label2id={name: i for i, name in enumerate(STREET)},
    )  # fmt: skip
    transformers.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    processor = transformers.Mask2FormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128}
    )
    processor.save_pretrained(folder)
    return folder


def sam3(folder: Path, seed: int = 0) -> Path:
    """SAM 3 for images of 56 pixels, with a text encoder of one layer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    part = {"hidden_size": 32, "num_attention_heads": 2}
    vit = {
        **part, "model_type": "sam3_vit_model", "intermediate_size": 32, "num_hidden_layers": 2,
        "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    }  # fmt: skip
    layers = {**part, "num_layers": 1, "intermediate_size": 32}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": vit, "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config={
            **part, "model_type": "clip_text_model", "vocab_size": 1100, "intermediate_size": 32,
            "num_hidden_layers": 1, "max_position_embeddings": 32, "projection_dim": 16,
            "eos_token_id": 102, "bos_token_id": 101, "pad_token_id": 0,
        },
        geometry_encoder_config={**layers, "roi_size": 3},
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 7},
        mask_decoder_config={**part, "num_upsampling_stages": 3},
    )  # fmt: skip
    transformers.Sam3Model(config).save_pretrained(folder)
    word_tokenizer(folder)
    return folder


def dinov2(folder: Path, seed: int = 0, registers: int = 0) -> Path:
    """DINOv2 with patches of 14 pixels, trained on images of 56, with or without registers."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    kind, more = "Dinov2", {}
    if registers:
        kind, more = "Dinov2WithRegisters", {"num_register_tokens": registers}
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56,
        patch_size=14, **more,
    )  # fmt: skip
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return folder


def dinov3(folder: Path, seed: int = 0, registers: int = 4) -> Path:
    """DINOv3 (ViT) with patches of 16 pixels."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=16, num_register_tokens=registers,
    )  # fmt: skip
    transformers.DINOv3ViTModel(config).save_pretrained(folder)
    return folder
