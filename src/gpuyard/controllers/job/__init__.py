"""The Job controller: decides what a Job's pods should be, and makes it so."""
