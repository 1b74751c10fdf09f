"""Reports as files in a folder: the document in every form, and the example that the documentation shows."""
