"""Support for test suites: options, and one report of many tests."""
