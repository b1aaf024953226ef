"""Simulated drives as data set folders: the plan, its faults, rendering and files."""
