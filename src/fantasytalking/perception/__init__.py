"""Faces and bodies in images: detection, mesh, identity, joints; all offline, by the small networks in `networks/`."""
