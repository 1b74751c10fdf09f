"""Reading, validating and writing files: JSON, schemas, markup."""
