"""What a training run leaves behind as it goes: journal, curves, pictures of its photos, report."""
