"""Measurement of the sparse engine: networks on LiDAR sweeps, layer by layer, beside the machine.

`measure` is the entry; `layers` finds what a network computes, `rates` what the machine can do,
`rows` takes one backend's figures, `peers` those of other libraries on the same weights and voxels.
"""
