"""The kinds that the yard serves, one declaration each.

`kind` says what a declaration holds, `registry` finds them, `served` lists them.
"""
