"""What is measured: applications as small as they can be, so that what observes them shows most."""
