"""Noria: continuous training for Transformers, declared as a DAG."""
