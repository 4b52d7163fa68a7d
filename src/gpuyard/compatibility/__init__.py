"""Whether an image will run on a GPU: what it needs of driver, architecture and host, what a node offers."""
