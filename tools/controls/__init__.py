"""Objectives whose link is cut by what they do with a batch, where no switch of the toy world can cut it."""
