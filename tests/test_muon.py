"""Muon is its authors', PyTorch's and Optax's, on the matrices that it is told of, and as orthogonal as it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx.matrices.coefficients import SETS, coefficients, largest_error
from adamx.matrices.kinds import why_not
from adamx.matrices.layout import axes
from adamx.matrices.newton_schulz import NewtonSchulz, gram, normalised, plain
from adamx.presets import preset
from tests.helpers import as_users_do, jitted_in_float64
from tests.reference import matrices as ref

SHAPES = {"tall": (6, 4), "wide": (3, 8), "square": (5, 5)}
AS_KELLER = {"bias_correction": False, "layout": "out,in"}

BOXES = {
    "keller": ({}, ref.keller),
    "without_nesterov": ({"nesterov": False}, functools.partial(ref.keller, nesterov=False)),
    "moonlight": ({"scale": "rms"}, ref.moonlight),
    "polar_express": (
        {"ns_coeffs": "polar_express"},
        functools.partial(ref.keller, triples=SETS["polar_express"].triples, margin=1.02),
    ),
    "normuon": ({"second_moment": "rows"}, ref.normuon),
    "adamuon": ({"second_moment": "elements"}, ref.adamuon),
}


def stream(shapes=SHAPES, steps=12, seed=0):
    """Gradients of each leaf, their step the first axis."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((steps, *shape)) for name, shape in shapes.items()}


def directions(rule, grads):
    tx = adamx.scale_by(rule)

    def body(state, g):
        u, state = tx.update(g, state)
        return state, u

    def run(grads):
        return jax.lax.scan(body, tx.init(jax.tree.map(lambda g: g[0], grads)), grads)[1]

    return jitted_in_float64(run)(jax.tree.map(jnp.asarray, grads))


@pytest.mark.parametrize("name", BOXES)
def test_float64_follows_the_box_to_1e_10(name, x64):
    own, box = BOXES[name]
    grads = stream()
    got = directions(adamx.Muon(**AS_KELLER, **own), grads)
    for leaf, g in grads.items():
        np.testing.assert_allclose(got[leaf], list(box(g)), rtol=1e-10, atol=1e-10)


def trajectory(opt, params, grads):
    def body(carry, g):
        params, state = carry
        updates, state = opt.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params, grads = jax.tree.map(jnp.asarray, (params, grads))
    return jitted_in_float64(lambda p: jax.lax.scan(body, (p, opt.init(p)), grads)[1])(params)


MODEL = {"kernel": (6, 4), "wide": {"kernel": (3, 8)}, "bias": (4,)}
RATE = lambda t: 0.02 / (1 + t)  # noqa: E731


def model(seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(rng.standard_normal, MODEL, is_leaf=lambda x: isinstance(x, tuple))


def gradients(steps=20):
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda p: rng.standard_normal((steps, *p.shape)), model())


OPTAX = {
    "defaults": {},
    "scheduled": {"learning_rate": RATE, "ns_coeffs": "dion", "weight_decay": 0.1, "nesterov": False, "beta": 0.9},
    "consistent_rms": {"ns_coeffs": (3.0, -3.2, 1.2), "ns_steps": 7, "consistent_rms": 0.3, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTAX)
def test_it_is_optaxs_where_that_takes_the_same_leaves(name, x64, loose):
    """To 1e-10 in float64, in which Optax takes Newton–Schulz, too; the rest is its AdamW."""
    given = {"learning_rate": 0.02, **OPTAX[name]}
    steps = {"ns_steps": 5} if "ns_steps" not in given else {}
    theirs = trajectory(optax.contrib.muon(**given), model(), gradients())
    ours = trajectory(adamx.muon(**{**given, **steps}, eps=1e-8), model(), gradients())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), ours, theirs)
    own = trajectory(preset("optax", "muon", **given), model()["kernel"], gradients()["kernel"])
    np.testing.assert_allclose(own, theirs["kernel"], rtol=1e-10, atol=1e-10)


def test_a_run_of_optax_goes_on_and_comes_back(x64, loose):
    axes_of = {"kernel": optax.contrib.MuonDimensionNumbers()}
    tx = optax.contrib.scale_by_muon(weight_dimension_numbers=axes_of)
    opt = adamx.scale_by(adamx.Muon(eps=1e-8))
    params, grads = ({"kernel": jnp.asarray(x["kernel"])} for x in (model(), gradients()))
    state = jax.jit(tx.init)(params)
    for t in range(3):
        _, state = jax.jit(tx.update)({"kernel": grads["kernel"][t]}, state)
    moved = adamx.from_optax(opt, state, params)
    ours, theirs = (jax.jit(lib.update)({"kernel": grads["kernel"][3]}, s) for lib, s in ((opt, moved), (tx, state)))
    np.testing.assert_allclose(ours[0]["kernel"], theirs[0]["kernel"], rtol=1e-10, atol=1e-10)
    back = adamx.to_optax(opt, ours[1], tx, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), back, theirs[1])


@pytest.mark.parametrize(
    "arguments", [{}, {"adjust_lr_fn": "match_rms_adamw", "nesterov": False, "ns_steps": 4, "momentum": 0.9, "lr": 0.1}]
)
def test_it_is_pytorchs(arguments, x64, monkeypatch):
    """To 1e-10 in float64: both would take Newton–Schulz in bfloat16, and round sums in other orders there."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[test]'")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    opt = preset("pytorch", "muon", **arguments)
    engine = opt.engine
    in_float64 = adamx.Muon(**{**vars(engine.rule.rule), "ns_dtype": "leaf"})
    rate = arguments.get("lr", 1e-3)
    start, grads = model()["kernel"], gradients()["kernel"]
    ours = trajectory(adamx.optimizer(in_float64, rate, weight_decay=0.1), start, grads)
    weight = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.Muon([weight], **arguments)
    for t, g in enumerate(grads):
        weight.grad = torch.tensor(g)
        reference.step()
        np.testing.assert_allclose(ours[t], weight.detach().numpy(), rtol=1e-10, atol=1e-10)
    saved = reference.state_dict()
    saved["state"][0]["step"] = len(grads)  # PyTorch's Muon counts none
    state = adamx.from_torch(opt, saved, {"w": jnp.asarray(start)}, ["w"])
    np.testing.assert_allclose(state.slots.mu["w"], saved["state"][0]["momentum_buffer"])


# Layouts


LAYOUTS = {
    "in,out": ((4, 6), lambda x: [x]),
    "out,in": ((6, 4), lambda x: [x.T]),
    "batch,in,out": ((2, 4, 6), list),
    "in,batch,out": ((4, 3, 2), lambda x: [*x.swapaxes(0, 1)]),
    "in,in,in,out": ((2, 1, 3, 5), lambda x: [x.reshape(6, 5)]),
    "in,in,out": ((2, 3, 5), lambda x: [x.reshape(6, 5)]),
    "in,out,out": ((5, 2, 3), lambda x: [x.reshape(5, 6)]),
    "in,out/3": ((4, 6), lambda x: np.split(x, 3, 1)),
    "out/4+1+1,in": ((6, 4), lambda x: [part.T for part in np.split(x, [4, 5])]),
    "batch,in,out/2": ((2, 4, 6), lambda x: [part for one in x for part in np.split(one, 2, 1)]),
}


def test_the_matrices_of_a_layout_are_stepped_as_leaves_of_their_own(x64):
    """All in one program; and a mean for each output is of its own matrix."""
    shapes = {layout: shape for layout, (shape, _) in LAYOUTS.items()}
    grads = stream(shapes, steps=2)
    alone = {
        f"{layout} {i}": np.stack(g)
        for layout, (_, apart) in LAYOUTS.items()
        for i, g in enumerate(zip(*map(apart, grads[layout]), strict=True))
    }
    given = {"ns_steps": 2, "second_moment": "rows", "scale": "spectral"}
    wanted = directions(adamx.Muon(**given), alone)
    for layout in LAYOUTS:
        own = axes(layout)
        for x in grads[layout]:
            assert (own.leaf(own.stacks(jnp.asarray(x)), x.shape) == x).all()
    several = {layout: adamx.scale_by(adamx.Muon(**given, layout=layout)) for layout in LAYOUTS}

    def run(grads):
        found = {}
        for layout, tx in several.items():
            state, found[layout] = tx.init(grads[layout][0]), []
            for g in grads[layout]:
                u, state = tx.update(g, state)
                found[layout].append(u)
        return found

    got = jitted_in_float64(run)(jax.tree.map(jnp.asarray, grads))
    for layout, (_, apart) in LAYOUTS.items():
        for t, u in enumerate(got[layout]):
            for i, part in enumerate(apart(np.asarray(u))):
                np.testing.assert_allclose(part, wanted[f"{layout} {i}"][t], rtol=1e-12, atol=1e-12)


# Orthogonality


def with_values(values, columns, seed=0):
    """A float32 matrix of these singular values."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((n, len(values))))[0] for n in (len(values), columns))
    return (u * values) @ v.T


ROWS = 32
SPECTRA = {
    "12 decades": np.geomspace(1, 1e-12, ROWS),
    "rank one": np.r_[1.0, np.zeros(ROWS - 1)],
    "equal": np.ones(ROWS),
    "one of thousands": np.r_[1.0, np.full(ROWS - 1, 1e-3)],
}
WITHIN = {"leaf": 1e-3, "float32": 1e-3, "bfloat16": 0.08}
"""By how much rounding moves singular values: bfloat16's is .004, in the sums of fifteen products."""


def matrices_of_all_kinds(columns):
    drawn = [*(with_values(values, columns) for values in SPECTRA.values())]
    drawn += [np.tile(np.random.default_rng(1).standard_normal(columns), (ROWS, 1))]  # equal rows
    return np.stack(drawn)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in ("keller_jordan", "polar_express") for dtype in WITHIN]
    + [("quintic", "leaf"), ("deepseek_v4", "leaf"), ("cans", "float32")],
)
@pytest.mark.parametrize("columns", [ROWS, 2 * ROWS])
def test_singular_values_end_where_the_polynomials_bring_them(name, dtype, columns):
    """Those of 1e-2 of the norm and more, whatever the scale of the gradients; none is above 1.21."""
    of, x = coefficients(name, None), matrices_of_all_kinds(columns)
    scales = 10.0 ** np.array([0, 30, -30, -18, 18])[:, None, None]
    o = as_users_do(NewtonSchulz(of, dtype))(jnp.asarray(x * scales, jnp.float32))
    bound = largest_error(of, 1e-2) + WITHIN[dtype]
    for own, made in zip(x, np.asarray(o, np.float64), strict=True):
        u, s, vh = np.linalg.svd(own, full_matrices=False)
        large = s >= 1e-2 * np.linalg.norm(s)
        ended = np.diag(u.T @ made @ vh.T)[large]
        assert np.abs(ended - 1).max() <= bound
        assert np.linalg.norm(made, 2) <= 1.21 + WITHIN[dtype]


def test_gram_matrices_lose_no_digits_that_are_needed():
    """Five steps of one Gram matrix would be .01 off where singular values are 1e-3 of the largest."""
    of = coefficients("polar_express", None)
    x = normalised(jnp.asarray(matrices_of_all_kinds(2 * ROWS)[[0, 2, 3]], jnp.float32), 0.0, of.margin)
    got, wanted = (as_users_do(functools.partial(f, steps=of.triples, precision=None))(x) for f in (gram, plain))
    assert float(jnp.abs(got - wanted).max()) <= 1e-4


def test_zero_stays_zero_and_nan_stays_in_its_matrix():
    of = NewtonSchulz(coefficients("keller_jordan", None))
    x = np.random.default_rng(0).standard_normal((4, 80, 160)).astype(np.float32)  # beyond 4,096, CPUs drop NaN
    x[0], x[1, 3, 3], x[2, 0, 0] = 0, np.nan, np.inf
    zero, bad, endless, whole = np.asarray(as_users_do(of)(x))
    assert (zero == 0).all()
    assert np.isnan(bad).all()
    assert np.isnan(endless).all()
    assert np.isfinite(whole).all()


def test_what_a_set_of_coefficients_promises_is_in_the_docstring():
    told = {"keller_jordan": 0.32, "quintic": 0.032, "polar_express": 0.141, "cans": 0.12, "deepseek_v4": 0.001}
    for name, most in told.items():
        assert largest_error(coefficients(name, None), 1e-2) == pytest.approx(most, abs=5e-3)


# Which leaves are matrices


@pytest.mark.parametrize(
    ("path", "shape", "why"),
    [
        ("wte/embedding", (100, 8), "an embedding"),
        ("Embed_0/embedding", (100, 8), "an embedding"),
        ("transformer/wpe", (100, 8), "an embedding"),
        ("lm_head/kernel", (8, 100), "a head"),
        ("head/kernel", (8, 10), "a head"),
        ("decoder/logits_dense/kernel", (8, 100), "a head"),
        ("layers/moe/router/kernel", (8, 4), "a router"),
        ("layers/mlp/gate/kernel", (8, 4), "a router"),
        ("layers/mlp/bias", (12, 8), "a bias"),
        ("layers/LayerNorm_0/scale", (12, 8), "a norm"),
        ("layers/ln_1/w", (12, 8), "a norm"),
        ("conv1d/kernel", (1, 8), "a vector, by its shape"),
        ("dense/kernel", (8, 1), "a vector, by its shape"),
        ("dense/bias", (8,), "a vector"),
        ("temperature", (), "a scalar"),
        ("attention/query/kernel", (8, 2, 4), "3 axes"),
        ("MultiHeadDotProductAttention_0/query/kernel", (8, 8), ""),
        ("multi_head/kernel", (8, 8), ""),
        ("mlp/gate_proj/kernel", (8, 16), ""),
        ("mlp/member/kernel", (8, 16), ""),
    ],
)
def test_what_is_no_matrix_of_a_hidden_layer_is_left_to_the_rest(path, shape, why):
    said = why_not(path, shape, "in,out")
    assert said.startswith(why) and bool(said) == bool(why)


def test_depthwise_kernels_are_no_matrices_and_pointwise_ones_are():
    assert why_not("conv/kernel", (3, 3, 1, 8), "in,in,in,out") == "a depthwise kernel, by its shape"
    assert why_not("conv/weight", (8, 1, 3, 3), "out,in,in,in") == "a depthwise kernel, by its shape"
    assert why_not("conv/kernel", (1, 1, 4, 8), "in,in,in,out") == ""
    assert why_not("conv/weight", (8, 4, 1, 1), "out,in,in,in") == ""


TRANSFORMER = {
    "wte": {"embedding": (64, 8)},
    "block": {
        "qkv": {"kernel": (8, 24), "bias": (24,)},
        "query": {"kernel": (8, 2, 4)},
        "experts": {"up": (4, 8, 16), "bias": (4, 16)},
        "ln": {"scale": (8,)},
    },
    "lm_head": {"kernel": (8, 64)},
}
OF_LEAVES = {"qkv": "in,out/3", "query": "in,batch,out", "experts": "batch,in,out"}


def transformer():
    return jax.tree.map(lambda s: jnp.ones(s), TRANSFORMER, is_leaf=lambda x: isinstance(x, tuple))


def test_explain_says_what_steps_each_leaf_and_why():
    opt = adamx.muon(0.02, layout=OF_LEAVES)
    told = {leaf.path: leaf.pattern for leaf in adamx.explain(opt, transformer())}
    assert told == {
        "params['wte']['embedding']": "rest: an embedding, by its name",
        "params['block']['qkv']['kernel']": "in,out/3",
        "params['block']['qkv']['bias']": "rest: a vector",
        "params['block']['query']['kernel']": "in,batch,out",
        "params['block']['experts']['up']": "batch,in,out",
        "params['block']['experts']['bias']": "rest: a bias, by its name",
        "params['block']['ln']['scale']": "rest: a vector",
        "params['lm_head']['kernel']": "rest: a head, by its name",
    }
    assert {*opt.init(transformer()).parts} == {*OF_LEAVES.values(), "in,out", "rest"}


def stepped(opt, params, grads):
    return jax.jit(lambda params: opt.step(grads, opt.init(params), params))(params)


def test_matrices_are_what_the_user_says():
    params = {"wte": jnp.ones((4, 3)), "w": jnp.ones((3, 3))}
    for chosen in ("wte", lambda path, leaf: path == "wte"):
        opt = adamx.muon(0.02, matrices=chosen, rest=optax.sgd(0.1))
        told = {leaf.path: leaf.pattern for leaf in adamx.explain(opt, params)}
        assert told == {"params['wte']": "in,out", "params['w']": "rest: not chosen by `matrices`"}
    only = {"w": jnp.ones((3, 3))}
    new, state = stepped(adamx.muon(0.02), only, only)  # with nothing for the rest
    assert (new["w"] < 1).all() and state.parts["rest"].slots.mu["w"] is None


def test_the_weights_decay_by_the_step_size_alone_and_cautiously():
    params = {"w": jnp.ones((8, 2)), "b": jnp.ones(2)}
    still = jax.tree.map(jnp.zeros_like, params)
    for scale in ("original", "rms"):
        opt = adamx.muon(0.5, weight_decay=0.1, scale=scale)
        new, _ = stepped(opt, params, still)
        np.testing.assert_allclose(new["w"], 0.95, rtol=1e-6)
        assert (new["b"] == 1).all()
    masked = adamx.muon(0.5, weight_decay=0.1, weight_decay_mask={"w": False, "b": True})
    assert (stepped(masked, params, still)[0]["w"] == 1).all()
    plain, cautious = (adamx.muon(0.5, weight_decay=0.1, decay=decay) for decay in ("decoupled", "cautious"))
    grads = {"w": jnp.asarray([[1.0, -1.0]] * 8), "b": jnp.ones(2)}
    a, b = (stepped(opt, params, grads)[0]["w"] for opt in (plain, cautious))
    np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-6)
    np.testing.assert_allclose(b[:, 1] - a[:, 1], 0.05, rtol=1e-5)  # a step that lets the weight grow


def test_momentum_is_stored_in_any_format_and_counted():
    params = {"w": jnp.ones((64, 128)), "b": jnp.ones(2)}
    sizes = {m: adamx.state_bytes(adamx.muon(0.1, moments=m), params).total for m in ("float32", "bfloat16", "int8")}
    assert sizes["float32"] - sizes["bfloat16"] == 2 * 64 * 128
    assert sizes["int8"] < 0.6 * sizes["bfloat16"]


def test_groups_and_live_numbers_are_of_matrices():
    params = {"a": jnp.eye(3), "c": jnp.eye(3), "b": jnp.ones(3)}
    opt = adamx.muon(
        adamx.live("learning_rate", 0.1), groups=[adamx.Group("a", learning_rate_scale=0.5)], rest=optax.sgd(1.0)
    )
    new, _ = stepped(opt, params, params)
    np.testing.assert_allclose(1 - new["a"][0, 0], 0.5 * (1 - new["c"][0, 0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ns_coeffs": "quintc"}, "ns_coeffs = 'quintc': did you mean 'quintic'"),
        ({"ns_coeffs": "quintic", "ns_steps": 4}, "ns_steps = 4, but ns_coeffs are 5 polynomials"),
        ({"ns_coeffs": "deepseek_v4", "ns_steps": 5}, "ns_steps = 5, but ns_coeffs are 10 polynomials"),
        ({"ns_coeffs": [1.0, 2.0]}, "three numbers"),
        ({"ns_coeffs": "cans"}, "need ns_dtype='float32'"),
        ({"ns_steps": 0}, "ns_steps = 0 should be a whole number, at least 1"),
        ({"ns_steps": 2.5}, "ns_steps = 2.5 should be a whole number"),
        ({"layout": "in,aut"}, "'aut' should be"),
        ({"layout": "in,in"}, 'needs an "in" and an "out"'),
        ({"layout": "in/2,out"}, "'in/2' should be"),
        ({"scale": "rsm"}, "scale = 'rsm'"),
        ({"second_moment": "columns"}, "second_moment = 'columns'"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        adamx.muon(0.1, **given)


@pytest.mark.parametrize("layout", ["in,out", "in,out/2", "batch,in,out"])
@pytest.mark.parametrize("second_moment", ["none", "rows"])
def test_leaves_that_are_no_matrices_are_refused_by_name_with_the_cure(layout, second_moment):
    opt = adamx.optimizer(adamx.Muon(layout=layout, second_moment=second_moment), 0.1)
    params = {"dense": {"bias": jnp.ones(3)}}
    with pytest.raises(ValueError, match=r"grads\['dense'\]\['bias'\]: a leaf of shape \(3,\).*as adamx.muon does"):
        opt.step(params, opt.init(params), params)


def test_patterns_of_no_leaf_and_what_is_no_optimizer_or_layout_are_refused():
    params = {"a": jnp.eye(2)}
    with pytest.raises(ValueError, match=r"'moe', name='layout'.*none of the paths. The paths are a"):
        adamx.muon(0.1, layout={"moe": "batch,in,out"}).init(params)
    with pytest.raises(ValueError, match=r"'dense', name='matrices'.*none of the paths. The paths are a"):
        adamx.muon(0.1, matrices="dense").init(params)
    with pytest.raises(TypeError, match=r"layout = 3 should be"):
        adamx.muon(0.1, layout=3)
    with pytest.raises(TypeError, match="no regular expression"):
        adamx.muon(0.1, layout={"(": "in,out"})
    with pytest.raises(TypeError, match="rest = 3 is not a gradient transformation"):
        adamx.muon(0.1, rest=3)


def test_a_layout_of_all_other_leaves_may_be_declared_and_spaces_name_no_other():
    params = {"a": jnp.eye(2), "c": jnp.eye(2)}
    told = adamx.explain(adamx.muon(0.1, layout={"a": "out, in", "": "out,in"}), params)
    assert [leaf.pattern for leaf in told] == ["out,in", "out,in"]


def test_groups_of_one_layout_are_no_error_in_another_and_those_of_the_rest_are():
    params = {"blk": jnp.ones((2, 2, 2)), "w": jnp.eye(2), "b": jnp.ones(2)}
    given = {"layout": {"blk": "batch,in,out"}, "rest": optax.sgd(1.0)}
    opt = adamx.muon(0.1, groups=[adamx.Group("w", frozen=True)], **given)
    new, _ = stepped(opt, params, params)
    assert jnp.array_equal(new["w"], params["w"]) and not jnp.array_equal(new["blk"], params["blk"])
    with pytest.raises(ValueError, match=r"Group\('b\$'\) has no leaf.*The paths are blk, w"):
        adamx.muon(0.1, groups=[adamx.Group("b$", frozen=True)], **given).init(params)
