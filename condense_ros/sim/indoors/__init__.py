"""The building: corridors and rooms that repeat, their furniture and light."""
