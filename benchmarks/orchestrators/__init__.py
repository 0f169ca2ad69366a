"""The same eleven empty steps in Noria, Metaflow and ZenML: each gives one number, which is kept."""
