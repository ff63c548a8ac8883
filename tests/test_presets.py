"""Presets: frameworks that cannot be installed here, what may be given, the errors and the table."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adamx import presets
from adamx.presets import preset, table
from tests.following import assert_follows, deviation, follow, start, stream
from tests.helpers import product
from tests.reference import frameworks

TRANSCRIBED = {
    frameworks.tf1_adam: ("tf1", "adam", {}),
    frameworks.tf1_rmsprop: (
        "tf1",
        "rmsprop",
        dict(learning_rate=lambda t: 0.01 / (t.astype(float) + 1), momentum=0.9),
    ),
    frameworks.mlx_adamw: ("mlx", "adamw", dict(learning_rate=1e-3)),
    frameworks.mlx_adamax: ("mlx", "adamax", dict(learning_rate=1e-3)),
    frameworks.bert_adamw: ("bert", "adamw", dict(learning_rate=1e-3)),
    frameworks.paddle_amsgrad: ("paddle", "amsgrad", dict(weight_decay=0.1)),
    frameworks.torch7_adam: ("torch7", "adam", dict(learningRateDecay=0.1, weightDecay=0.1)),
    frameworks.torch7_adagrad: ("torch7", "adagrad", dict(learningRateDecay=0.1)),
    frameworks.chainer_amsgrad: ("chainer", "amsgrad", dict(alpha=0.01, eta=0.5, weight_decay_rate=0.1)),
    frameworks.mxnet_adagrad: ("mxnet", "adagrad", dict(wd=0.1)),
    frameworks.mxnet_adadelta: ("mxnet", "adadelta", dict(wd=0.1)),
    frameworks.mxnet_nadam: ("mxnet", "nadam", dict(wd=0.1)),
    frameworks.caffe_adam: ("caffe", "adam", dict(base_lr=1e-3, weight_decay=0.1)),
    frameworks.blocks_adagrad: ("blocks", "adagrad", {}),
}


def transcribed_trajectory(update):
    taken = {}
    for name, p in start().items():
        s, taken[name] = collections.defaultdict(float), []
        for t, g in enumerate(stream()[name], 1):
            p = update(t, p, g, s)
            taken[name].append(p)
    return {name: np.stack(ps) for name, ps in taken.items()}


@pytest.mark.parametrize(("update", "of"), TRANSCRIBED.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_trajectories_of_packages_that_cannot_be_installed(update, of, x64):
    framework, optimizer, arguments = of
    assert_follows(follow(preset(framework, optimizer, **arguments)), transcribed_trajectory(update))


SAME = [
    [
        ("keras", "adam", dict(epsilon=1e-8)),
        ("tf1", "adam", {}),
        ("mxnet", "adam", {}),
        ("lasagne", "adam", {}),
        ("blocks", "adam", dict(learning_rate=1e-3)),
        ("caffe", "adam", dict(base_lr=1e-3, momentum=0.9)),
        ("torch7", "adam", {}),
        ("chainer", "adam", {}),
    ],
    [
        ("pytorch", "adam", {}),
        ("optax", "adam", dict(learning_rate=1e-3)),
        ("mlx", "adam", dict(learning_rate=1e-3, bias_correction=True)),
        ("paddle", "adam", {}),
    ],
    [
        ("pytorch", "adamw", {}),
        ("paddle", "adamw", {}),
        ("optax", "adamw", dict(learning_rate=1e-3, weight_decay=0.01)),
    ],
    [("keras", "amsgrad", dict(epsilon=1e-8)), ("lasagne", "amsgrad", {}), ("chainer", "amsgrad", {})],
    [
        ("pytorch", "adamax", {}),
        ("optax", "adamax", dict(learning_rate=2e-3)),
        ("torch7", "adamax", dict(epsilon=1e-8)),
    ],
    [("keras", "adamax", dict(learning_rate=2e-3, epsilon=1e-8)), ("lasagne", "adamax", {})],
    [("pytorch", "adamax", dict(eps=0.0)), ("mxnet", "adamax", {})],
    [
        ("pytorch", "rmsprop", {}),
        ("torch7", "rmsprop", {}),
        ("chainer", "rmsprop", {}),
        ("caffe", "rmsprop", dict(base_lr=0.01)),
        ("mlx", "rmsprop", dict(learning_rate=0.01)),
    ],
    [("keras", "rmsprop", dict(learning_rate=1.0, epsilon=1e-6)), ("lasagne", "rmsprop", {})],
    [
        ("pytorch", "adagrad", dict(lr=1e-3, eps=1e-8)),
        ("chainer", "adagrad", {}),
        ("caffe", "adagrad", dict(base_lr=1e-3)),
        ("mlx", "adagrad", dict(learning_rate=1e-3)),
    ],
    [("keras", "adagrad", dict(epsilon=0.0)), ("tf1", "adagrad", dict(learning_rate=1e-3))],
    [
        ("keras", "adagrad", dict(learning_rate=1.0, initial_accumulator_value=0.0, epsilon=1e-6)),
        ("lasagne", "adagrad", {}),
    ],
    [("pytorch", "adadelta", {}), ("torch7", "adadelta", {}), ("mlx", "adadelta", dict(learning_rate=1.0))],
    [
        ("keras", "adadelta", dict(learning_rate=1.0, epsilon=1e-6)),
        ("lasagne", "adadelta", {}),
        ("blocks", "adadelta", {}),
        ("chainer", "adadelta", {}),
        ("caffe", "adadelta", dict(base_lr=1.0, momentum=0.95, delta=1e-6)),
        ("tf1", "adadelta", dict(learning_rate=1.0, epsilon=1e-6)),
    ],
    [("keras", "lion", dict(learning_rate=1e-4)), ("mlx", "lion", dict(learning_rate=1e-4))],
    [("keras", "adafactor", dict(learning_rate=0.01)), ("mlx", "adafactor", {})],
]


@pytest.mark.product  # the others of frameworks that agree with one whose trajectory is followed
@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: "=".join(f"{s[0]}.{s[1]}" for s in spellings))
def test_frameworks_that_agree_but_for_their_defaults(spellings, x64):
    first, *others = [follow(preset(framework, name, **arguments)) for framework, name, arguments in spellings]
    for other in others:
        assert deviation(other, first) <= 1e-13


def test_mlx_without_bias_correction_starts_3_times_too_far_and_peaks_at_6_and_a_half(x64):
    opt = preset("mlx", "adam", learning_rate=1.0)
    p, state, steps = jnp.zeros(()), opt.init(jnp.zeros(())), []
    for _ in range(20):
        update, state = opt.update(jnp.ones(()), state, p)
        steps.append(-float(update))
    np.testing.assert_allclose([steps[0], max(steps)], [np.sqrt(10), 6.57], rtol=1e-3)
    assert 12 <= np.argmax(steps) + 1 <= 13


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0])
def test_chainer_decays_by_the_same_share_whatever_the_step_size(alpha, x64):
    opt = preset("chainer", "adam", alpha=alpha, eta=0.5, weight_decay_rate=0.1)
    p = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(opt.step(jnp.zeros(2), opt.init(p), p)[0], 0.95 * p, rtol=1e-15)


ALL = [(framework, name) for framework, entries in presets.PRESETS.items() for name in entries]


def _given(framework, name):
    """What has to be given to the preset."""
    defaults = presets.PRESETS[framework][name].defaults
    return {argument: 0.1 for argument, value in defaults.items() if value is presets.REQUIRED}


@pytest.mark.parametrize(("framework", "name"), ALL)
def test_every_preset_takes_a_step_in_float32(framework, name):
    opt = preset(framework, name, **_given(framework, name))
    new = params = jnp.ones((2, 3))
    state = opt.init(params)
    for _ in range(1 + opt.engine.rule.preparing):
        new, state = opt.step(0.5 * params, state, new)
    new = np.asarray(new)
    assert new.dtype == np.float32
    assert np.isfinite(new).all() and new.mean() < 1  # SOAP turns the rounding of one gradient against it, too


RATES = ("lr", "learning_rate", "learningRate", "base_lr", "alpha")
RATED = [
    (f, n, r) for f, n in ALL for r in RATES if r in presets.PRESETS[f][n].defaults and (r, n) != ("alpha", "rmsprop")
]


@pytest.mark.parametrize(
    ("framework", "name", "rate"),
    [pytest.param(*rated, marks=() if rated[0] in ("pytorch", "keras", "chainer") else product) for rated in RATED],
)
def test_step_sizes_may_be_traced_or_scheduled(framework, name, rate):
    given = _given(framework, name)
    if (framework, name) == ("mlx", "adafactor"):
        given["relative_step"] = False
    params = jnp.ones((2, 3))

    def step(learning_rate, params):
        opt = preset(framework, name, **{**given, rate: learning_rate})
        return opt.step(0.5 * params, opt.init(params), params)[0]

    plain, scheduled = jax.jit(lambda params: (step(0.125, params), step(lambda t: 0.125, params)))(params)
    traced, less = map(functools.partial(jax.jit(step), params=params), jnp.asarray([0.125, 0.0625]))
    np.testing.assert_allclose(traced, plain, rtol=3e-7)
    np.testing.assert_allclose(scheduled, plain, rtol=3e-7)
    assert (plain != less).any()


def test_mask_says_what_decays():
    opt = preset("bert", "adamw", learning_rate=0.5, mask={"kernel": True, "bias": False})
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    new, _ = opt.step(jax.tree.map(jnp.zeros_like, params), opt.init(params), params)
    np.testing.assert_allclose(new["kernel"], 1 - 0.5 * 0.01, rtol=1e-6)
    assert (new["bias"] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "overrides", "message"),
    [
        (("pytorhc", "adam"), {}, "framework = 'pytorhc'.*'pytorch'"),
        (("keras", "adammax"), {}, "optimizer of keras = 'adammax'.*'adamax'"),
        (("keras", "adam"), {"eps": 1e-8}, "argument of keras adam = 'eps'.*'epsilon'"),
        (("pytorch", "adam"), {"weightdecay": 0.1}, "'weightdecay'.*'weight_decay'"),
        (("caffe", "adam"), {}, "caffe has no default for base_lr: give it, preset.'caffe', 'adam', base_lr=...."),
        (("pytorch", "adam"), {"betas": 0.9}, "betas = 0.9 should be 2 values"),
        (("pytorch", "adam"), {"betas": (0.9, 1.0)}, "b2 = 1.0 is outside"),
        (("torch7", "adagrad"), {"learningRate": -1.0, "learningRateDecay": 0.1}, "learning_rate = -1.0 is outside"),
        (("mlx", "adafactor"), {"relative_step": False}, "needs a learning_rate"),
    ],
)
def test_errors_name_the_nearest_that_is_right(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        preset(*arguments, **overrides)


def test_table_has_a_row_for_every_preset_and_one_for_nothing_else():
    head, rule, *rows = table().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(c[0], c[1]) for c in cells] == ALL
    assert {len(c) for c in cells} == {head.count("|") - 1} == {rule.count("|") - 1}
    for (framework, name), row in zip(ALL, cells, strict=True):
        for argument, value in presets.PRESETS[framework][name].defaults.items():
            assert f"{argument}={value!r}" in row[2]


@pytest.mark.parametrize(
    ("framework", "name", "words"),
    [
        ("pytorch", "adam", ("√v̂ + ε", "m, v", "λp into the gradient (L2)")),
        ("pytorch", "amsgrad", ("√v̂ + ε", "m, v after max v", "λp into the gradient (L2)")),
        ("optax", "amsgrad", ("√v̂ + ε", "m, v before max v̂", "–")),
        ("keras", "adamw", ("√v + ε̂", "m, v", "αλp")),
        ("keras", "adamax", ("ν + ε", "m", "αλp")),
        ("pytorch", "adamax", ("max(β₂ν, abs(g) + ε)", "m", "λp into the gradient (L2)")),
        ("optax", "rmsprop", ("√(v + ε)", "none", "–")),
        ("optax", "lamb", ("√v̂ + ε", "m, v", "λp before the trust ratio")),
        ("keras", "lamb", ("√v̂ + ε", "m, v", "αλp")),
        ("chainer", "adam", ("√v + ε̂", "m, v", "λp, whatever α is")),
        ("bert", "adamw", ("√v + ε", "none", "αλp")),
        ("mlx", "adam", ("√v + ε", "none", "–")),
        ("mxnet", "adamax", ("none", "m", "λp into the gradient (L2)")),
    ],
)
def test_table_says_what_the_rule_does(framework, name, words):
    row = next(line for line in table(framework).splitlines() if line.startswith(f"| {framework} | {name} |"))
    assert tuple(cell.strip() for cell in row.strip("|").split(" | ")[3:6]) == words
