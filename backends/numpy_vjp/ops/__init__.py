"""One function a file: forward and VJP side by side."""
