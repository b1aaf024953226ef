"""What a pretrained backbone is worth: probes, metrics and heads."""
