"""Ways to cut a source that several objectives share: frozen dataclasses of plain numbers, pure and testable without media."""
