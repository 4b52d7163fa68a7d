"""What nodes and their GPUs do, over any API: for `node`, `top` and `node fault`."""
