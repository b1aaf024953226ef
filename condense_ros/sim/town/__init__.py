"""The town: streets, houses, plants, vehicles, people, and what changes from session to session."""
