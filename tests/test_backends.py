"""Which backend takes a step is decided by the platform that its program is lowered for; adding one takes a line."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import adamx
from adamx import kernels
from adamx.diagnostics import monitor
from adamx.kernels.backend import Backend
from tests.helpers import needs_native

pytestmark = pytest.mark.usefixtures("one_device")

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 64 * 128).reshape(64, 128), "b": jnp.linspace(0.5, 1.0, 7)}
OTHERS = ["cuda", "rocm", "tpu"]


def traced(opt, wrap: Callable = lambda step: step):
    return jax.jit(wrap(opt.step)).trace(PARAMS, opt.init(PARAMS), PARAMS)


def text(opt, *platforms: str) -> str:
    return traced(opt).lower(lowering_platforms=platforms).as_text()


def left_to_xla(why: str | None) -> str | None:
    """Why, with this JAX: as told, or for want of Pallas."""
    found = kernels.available()["pallas"]
    return why if found == "yes" else found


@pytest.mark.parametrize("moments", ["float32", "int8"])
@pytest.mark.parametrize("platform", OTHERS)
def test_lowered_for_another_platform_a_step_is_not_in_cxx(platform, moments):
    assert "custom_call @adamx_step" not in text(adamx.adamw(1e-2, moments=moments), platform)


@needs_native
@pytest.mark.parametrize("moments", ["float32", "int8"])
def test_lowered_for_a_cpu_a_step_is_one_pass_in_cxx_in_place(moments):
    opt = adamx.adamw(1e-2, moments=moments)
    state = opt.init(PARAMS)
    compiled = jax.jit(opt.step, donate_argnums=(1, 2)).lower(PARAMS, state, PARAMS).compile()
    found, memory = compiled.as_text(), compiled.memory_analysis()
    assert found.count('custom_call_target="adamx_step"') == (1 if moments == "float32" else 2)  # of each kind of leaf
    assert "conditional" not in found
    assert memory.alias_size_in_bytes == sum(x.nbytes for x in jax.tree.leaves((PARAMS, state)))


@needs_native
def test_lowered_for_several_platforms_a_step_asks_where_it_runs():
    found = text(adamx.adamw(1e-2), "cpu", "cuda")
    assert "custom_call @adamx_step" in found and "stablehlo.case" in found


@needs_native
def test_what_a_monitor_adds_up_goes_where_the_step_does():
    opt = monitor(adamx.adam(1e-2))
    assert "adamx_sums" in text(opt, "cpu")
    assert not any("adamx_sums" in text(opt, platform) for platform in OTHERS)


@pytest.mark.parametrize("platforms", [["cuda"], ["tpu"], ["cpu"], ["cpu", "cuda"], ["cuda", "tpu"]], ids=str)
def test_an_exported_step_needs_nothing_of_this_machine(platforms):
    opt = adamx.adamw(1e-2, moments="int8")
    state = opt.init(PARAMS)
    exported = jax.export.export(jax.jit(opt.step), platforms=platforms)(PARAMS, state, PARAMS)
    assert "adamx_" not in exported.mlir_module()
    if "cpu" in platforms:
        wanted = adamx.adamw(1e-2, moments="int8", kernel="xla").step(PARAMS, state, PARAMS)[0]
        got = exported.call(PARAMS, state, PARAMS)[0]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7, atol=1e-8), got, wanted)


@needs_native
def test_by_name_a_backend_says_that_it_does_not_run_there():
    opt = adamx.adamw(1e-2, kernel="native")
    with pytest.raises(NotImplementedError, match=r"kernel='native' runs on cpu, and the program is lowered for cuda"):
        text(opt, "cuda")
    assert "adamx_step" in text(opt, "cpu")


@needs_native
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_under_vmap_and_scan_the_platform_decides_as_well(platform):
    def steps(rate, params):
        opt = adamx.adam(rate)
        body = lambda carry, _: (opt.step(carry[0], carry[1], carry[0]), None)  # noqa: E731
        return jax.lax.scan(body, (params, opt.init(params)), length=2)[0][0]

    many = jax.jit(jax.vmap(jax.vmap(steps, (0, None)), (None, 0)))
    stacked = jax.tree.map(lambda p: jnp.stack([p, -p, 2 * p]), PARAMS)
    rates = jnp.asarray([1e-2, 1e-3])
    lowered = many.trace(rates, stacked).lower(lowering_platforms=(platform,))
    assert ("custom_call @adamx_step" in lowered.as_text()) == (platform == "cpu")
    if platform == "cpu":
        together = many(rates, stacked)
        assert together["w"].shape == (3, 2, 64, 128)
        alone = jax.jit(steps)(rates[1], jax.tree.map(lambda p: p[2], stacked))
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2, 1], b), together, alone)


@needs_native
@pytest.mark.devices
@pytest.mark.parametrize("platforms", [("cuda",), ("cpu", "cuda")], ids=str)
def test_under_shard_map_whoever_steps_results_vary_alike(platforms):
    mesh, opt = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,)), adamx.adam(1e-2)

    def step(cut, whole):
        grads, params = {"cut": cut, "whole": whole}, {"cut": whole, "whole": whole}
        return opt.step(grads, opt.init(params), params)[0]

    specs = {"cut": P("x"), "whole": P()}
    mapped = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P("x"), P()), out_specs=specs))
    found = mapped.trace(jnp.ones((8, 128)), jnp.ones((2, 128))).lower(lowering_platforms=platforms).as_text()
    assert ("custom_call @adamx_step" in found) == ("cpu" in platforms)


@needs_native
def test_a_gradient_through_a_step_is_by_xlas_formulas():
    def loss(opt, params, scale):
        params, state = opt.step(params, opt.init(params), params)
        return jnp.sum(opt.step(jax.tree.map(jnp.cos, params), state, params, grad_scale=scale)[0]["w"] ** 2)

    auto, xla, native = (adamx.adam(1e-2, kernel=kernel) for kernel in ("auto", "xla", "native"))
    slopes = lambda opt: jax.jit(jax.grad(lambda p, s: loss(opt, p, s), (0, 1)))(PARAMS, 0.5)  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), slopes(auto), slopes(xla))
    with pytest.raises(NotImplementedError, match="kernel='native' cannot be differentiated: take kernel='xla'"):
        slopes(native)


class Counted(adamx.Adam):
    """Adam that says how often it is traced."""

    def step(self, g, s, at):
        counted.append(g.shape)
        return super().step(g, s, at)


counted: list[tuple[int, ...]] = []


def toy(taken: list, platforms: tuple[str, ...] = ("cpu",)) -> Backend:
    """It takes large leaves and moves them to 7."""

    def apply(steps, total):
        del total
        taken.append(len(steps))
        return [(jnp.full_like(step.leaf.p, 7), step.leaf.stored, step.leaf.residual) for step in steps]

    def unsupported_reason(step):
        return None if jnp.size(step.leaf.g) > 100 else "it takes large leaves"

    return Backend("toy", platforms, lambda: None, unsupported_reason, apply)


def test_a_backend_is_a_line_of_the_registry(monkeypatch):
    taken = []
    monkeypatch.setattr(kernels, "BACKENDS", (toy(taken), *kernels.BACKENDS))
    opt = adamx.optimizer(Counted(), 1e-2)
    counted.clear()
    after = jax.jit(opt.step)(PARAMS, opt.init(PARAMS), PARAMS)[0]
    assert (after["w"] == 7).all() and (after["b"] < PARAMS["b"]).all()
    assert taken == [1] and counted == [(7,)]  # XLA's path of what another takes is not traced
    assert kernels.available()["toy"] == "yes"
    by_path = {leaf.path: leaf for leaf in adamx.explain(opt, PARAMS, platform="cpu")}
    assert (by_path["params['w']"].kernel, by_path["params['w']"].why) == ("toy", "")
    assert by_path["params['b']"].kernel == "xla" and "it takes large leaves" in by_path["params['b']"].why
    elsewhere = {leaf.path: leaf for leaf in adamx.explain(opt, PARAMS, platform="tpu")}
    assert elsewhere["params['w']"].kernel == "xla"
    assert elsewhere["params['w']"].why == left_to_xla("XLA makes one pass over memory itself")


def test_a_backend_for_another_platform_is_taken_there_only(monkeypatch):
    taken = []
    monkeypatch.setattr(kernels, "BACKENDS", (toy(taken, ("cuda", "tpu")), *kernels.BACKENDS))
    opt = adamx.adam(1e-2)
    program = traced(opt)
    for platform, count in (("rocm", 0), ("cpu", 0), ("cuda", 1), ("tpu", 2)):
        program.lower(lowering_platforms=(platform,))
        assert len(taken) == count


@needs_native
def test_explain_tells_of_another_platform():
    plan = adamx.explain(adamx.adam(1e-2), PARAMS, platform="tpu")
    small = "pallas" if left_to_xla(None) is None else "xla"
    assert {leaf.path: leaf.kernel for leaf in plan} == {"params['w']": "xla", "params['b']": small}
    assert left_to_xla("XLA steps 1 of them: XLA makes one pass over memory itself") in str(plan)
    elsewhere = adamx.explain(adamx.adam(1e-2, kernel="native"), PARAMS, platform="tpu")
    assert {(leaf.kernel, leaf.why) for leaf in elsewhere} == {("none", "native runs on cpu, not on tpu")}
    assert {leaf.kernel for leaf in adamx.explain(adamx.adam(1e-2), PARAMS, platform="cpu")} == {"native"}


def test_called_eagerly_a_step_is_traced_once(monkeypatch):
    taken = []
    monkeypatch.setattr(kernels, "BACKENDS", (toy(taken), *kernels.BACKENDS))
    state = adamx.adam(1e-2, moments="int8").init(PARAMS)
    for _ in range(2):
        params, state = adamx.adam(1e-2, moments="int8").step(PARAMS, state, PARAMS)
        assert (params["w"] == 7).all()
    assert taken == [1]
