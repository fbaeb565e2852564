"""Space-Time Memory networks: one mask in, the object cut out of the whole video."""

from vitascope.methods.stm.convert import load_official

__all__ = ["load_official"]
