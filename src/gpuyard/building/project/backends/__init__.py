"""What each build backend would put into a wheel, found from a project's files alone.

A backend has two functions: `declared` gives the fields of [project] with those that the backend fills in,
and `parts` the packages and modules. Both raise BuildError by `not_static` where only a build could tell.
"""
