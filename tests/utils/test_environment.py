"""What a result says of the machine that made it."""

import json
import platform

import torch

from cliptd.utils.environment import environment


def test_versions_hardware_and_memory_are_plain_values():
    found = json.loads(json.dumps(environment()))
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert found["hardware"]["threads"] == torch.get_num_threads()
    assert found["peak_memory"]["process_bytes"] > 50_000_000  # torch alone takes more
