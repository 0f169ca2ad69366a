"""docs/benchmarks.md says where the numbers come from."""

import json

from benchmarks.table import _section


def test_a_section_names_all_of_the_machine(tmp_path):
    machine = {"cores": 2, "memory_gib": 23.6, "machine": "x86_64", "gpu": "NVIDIA H200"}
    results = {"machine": machine, "versions": {"torch": "2.13.0"}, "rows": []}
    (tmp_path / "speed.json").write_text(json.dumps(results))
    assert "2 cores, 24 GiB, x86_64, NVIDIA H200; torch 2.13.0." in _section(tmp_path / "speed.json")
