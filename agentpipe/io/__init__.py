"""Everything that touches the world: descriptors, processes, sockets, files, clocks."""
