"""Live views in a notebook: what moves, and what has buttons. Each leaves a still for pages without a kernel."""
