"""Files to frames to clips: probe, index, reader, clips, transforms, cuts, writer."""
