"""Debian's and Ubuntu's packages in images: chosen, locked and unpacked without root, a daemon or apt."""
