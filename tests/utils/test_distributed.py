"""Two gloo processes against one process on the concatenated batch, gradients included."""

import pytest
import torch

from cliptd.utils.distributed import gather, gather_with_gradient, rank, world_size
from tests.helpers.distributed_worker import CONFIGS, build, inputs, ragged_columns, ragged_loss, work
from tests.helpers.tiny_students import tiny_columns

COLUMNS = ragged_columns(tiny_columns(8))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    arguments = (f"file://{folder}/rendezvous", COLUMNS, str(folder))
    torch.multiprocessing.spawn(work, arguments, nprocs=2)
    return [torch.load(folder / f"{index}.pt") for index in range(2)]


def test_gather_is_in_rank_order_and_ragged(found):
    torch.manual_seed(1)
    values = torch.randn(8, 2, dtype=torch.float64)
    for index in range(2):
        assert found[index]["place"] == (index, 2)
        assert torch.equal(found[index]["everyone"], values)
        assert torch.equal(found[index]["flags"], torch.arange(8) % 2 == 0)
        assert found[index]["empty"].shape == (0, 3)
        assert torch.equal(found[index]["one side empty"], torch.ones(2, 3))


def test_gathered_gradients_are_those_of_the_whole_batch(found):
    torch.manual_seed(1)
    values = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    ragged_loss(values, values).backward()
    torch.testing.assert_close(torch.cat([found[0]["rows"], found[1]["rows"]]), values.grad)


@pytest.mark.parametrize("config", CONFIGS)
def test_ddp_equals_one_process_on_the_whole_batch(found, config):
    model = build(config)
    output = model(**inputs(COLUMNS))
    output["loss"].backward()
    losses = torch.stack([found[index][f"{config} loss"] for index in range(2)])
    torch.testing.assert_close(losses.mean(), output["loss"].detach())
    for name, parameter in model.named_parameters():
        for index in range(2):
            torch.testing.assert_close(found[index][config][name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_one_process_needs_no_group():
    tensor = torch.randn(3, 2, requires_grad=True)
    assert gather_with_gradient(tensor) is tensor
    assert torch.equal(gather(tensor), tensor)
    assert not gather(tensor).requires_grad
    assert (rank(), world_size()) == (0, 1)
