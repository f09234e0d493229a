"""The versions, hardware and memory that a result records."""

import json
import platform

import torch

from cliptd.utils.environment import environment


def test_versions_hardware_and_memory_are_plain_values():
    found = json.loads(json.dumps(environment()))
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["hardware"]["threads"] == torch.get_num_threads()
    assert found["peak_memory"]["process_bytes"] > 50_000_000  # torch alone takes more
