"""Kinds of the group apps: what keeps pods of a template running."""
