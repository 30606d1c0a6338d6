"""Models of PyTorch's, and the backend of `torch.compile`."""
import importlib.metadata
import shutil

import pytest

import optc

torch = pytest.importorskip("torch")
from optc import dynamo

# By its name where the package is installed, and not only on the path.
INSTALLED = bool(importlib.metadata.entry_points(group="torch_dynamo_backends", name="optc"))
BACKEND = "optc" if INSTALLED else dynamo.backend


class Net(torch.nn.Module):
    """A network half of whose first filters are the same as others."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(16)
        self.second = torch.nn.Conv2d(16, 8, 3)
        self.last = torch.nn.Linear(8, 4)
        with torch.no_grad():
            for part in (self.first.weight, self.first.bias):
                part[8:] = part[:8]

    def forward(self, x):
        x = self.second(torch.relu(self.norm(self.first(x))))
        return self.last(torch.relu(x).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def close(left, right):
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_a_module_is_exported_and_its_mode_stays(net):
    x = torch.randn(2, 3, 8, 8)
    expected = net(x).detach()
    net.train()
    made = optc.optimize(net, "red{hash=none}", example_inputs=(x,))
    assert net.training and net.norm.training
    assert isinstance(made.model, torch.nn.Module)
    close(made.model(x), expected)
    assert made.report["after"]["params"] < made.report["before"]["params"]
    with pytest.raises(optc.UsageError, match="example_inputs"):
        optc.optimize(net)


def test_an_exported_program_gives_one(net):
    x = torch.randn(2, 3, 8, 8)
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    made = optc.optimize(program, "red{hash=none}", input="2x3x8x8", data=torch.randn(20, 3, 8, 8))
    assert isinstance(made.model, torch.export.ExportedProgram)
    more = torch.randn(5, 3, 8, 8)
    close(made.model.module()(more), net(more))


def test_torchscript_gives_torchscript(net):
    x = torch.randn(2, 3, 8, 8)
    made = optc.optimize(torch.jit.trace(net, x), "red{hash=none}", input="2x3x8x8")
    assert isinstance(made.model, torch.jit.ScriptModule)
    close(made.model(x), net(x))


def test_a_loader_gives_samples(net):
    x, y = torch.randn(40, 3, 8, 8), torch.randint(0, 4, (40,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    made = optc.optimize(net, "red", example_inputs=(x[:1],), data=loader, samples=16)
    assert made.report["calibration"]["samples"] == 16


def test_compile_optimises_for_inference(net):
    x = torch.randn(2, 3, 8, 8)
    options = {"passes": "red{hash=none}", "inner": "eager"}
    compiled = torch.compile(net, backend=BACKEND, options=options, dynamic=False)
    with torch.no_grad():
        close(compiled(x), net(x))
        close(compiled(x + 1), net(x + 1))


def test_the_backend_makes_the_graph_smaller(net):
    reports = []

    def watched(graph_module, example_inputs):
        run = dynamo.backend(graph_module, example_inputs, options={"passes": "red{hash=none}", "inner": "eager"})
        reports.append(run.report)
        return run

    with torch.no_grad():
        torch.compile(net, backend=watched, dynamic=False)(torch.randn(2, 3, 8, 8))
    (report,) = reports
    assert report["after"]["params"] < 0.7 * report["before"]["params"]


def test_the_inner_backend_compiles_the_smaller_graph(net):
    graphs = []

    def inner(graph_module, example_inputs):
        graphs.append(sum(value.numel() for value in example_inputs))
        return graph_module.forward

    x = torch.randn(2, 3, 8, 8)
    options = {"passes": "red{hash=none}", "inner": inner}
    compiled = torch.compile(net, backend=BACKEND, options=options, dynamic=False)
    with torch.no_grad():
        close(compiled(x), net(x))
        compiled(x + 1)
    (numbers,) = graphs
    assert numbers < 0.7 * sum(value.numel() for value in net.state_dict().values()) + x.numel()


def test_inductor_compiles_what_optc_leaves(net):
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    from torch._inductor import metrics

    torch._dynamo.reset()
    metrics.reset()
    compiled = torch.compile(net, backend=BACKEND, options={"passes": "red{hash=none}"}, dynamic=False)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad(), torch._inductor.config.patch(force_disable_caches=True):
        close(compiled(x), net(x))
    assert metrics.generated_kernel_count > 0


def test_what_is_trained_stays_as_it_is(net):
    compiled = torch.compile(net, backend=BACKEND, options={"inner": "eager"}, dynamic=False)
    with pytest.warns(UserWarning, match="no_grad"):
        compiled(torch.randn(2, 3, 8, 8)).sum().backward()
    assert net.first.weight.grad is not None
