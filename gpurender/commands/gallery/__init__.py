"""What ``gpurender preview --gallery`` does: one page of HTML with every preset."""
