"""JSON documents and files: the published schemas, strict reading, files that are written whole or not at all."""
