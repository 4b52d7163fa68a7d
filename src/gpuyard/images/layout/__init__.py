"""OCI image layouts: images in a folder, or in a .tar archive."""
