"""What others report of a rule is what the rule declares, a user's own rule too; what it does not is unknown."""

import ast
import importlib
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx import modifiers, rules, trajectories
from adamx.diagnostics import monitor, read, suggest_eps
from adamx.presets import Recipe
from adamx.presets._words import bias_corrections, decay_coupling, eps_place

PACKAGE = pathlib.Path(adamx.__file__).parent
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.ones(3)}
EPS = lambda t: jnp.where(t < 2, 0.1, 0.5)  # noqa: E731


class Undeclared(adamx.Rule[adamx.Moments]):
    """Adam without bias correction, which says nothing of itself."""

    b1: adamx.Beta = 0.9
    b2: adamx.Beta = 0.999
    eps: adamx.NonNegative = 1e-8
    slots = adamx.Adam.slots

    def step(self, g, s, at):
        mu = self.b1 * s.mu + (1 - self.b1) * g
        nu = self.b2 * s.nu + (1 - self.b2) * g * g
        return mu / (jnp.sqrt(nu) + self.eps), adamx.Moments(mu, nu)


class Declared(Undeclared):
    """The same, declared."""

    elementwise = True
    eps_place = "√v + ε"
    corrected_averages = "none"

    def moment_estimates(self, t):
        return adamx.MomentEstimates(eps=self.eps)


class Named(adamx.Rule):
    """Adam whose slots have names of their own, the second moment kept as its root."""

    b1: adamx.Beta = 0.9
    b2: adamx.Beta = 0.999
    eps: adamx.NonNegative = 1e-8
    slots = adamx.Moments(mu=adamx.Slot(nonnegative=True), nu=adamx.Slot())

    def step(self, g, s, at):
        root, mean = s.mu, s.nu
        mean = self.b1 * mean + (1 - self.b1) * g
        root = jnp.sqrt(self.b2 * root**2 + (1 - self.b2) * g * g)
        m_hat, r_hat = mean / (1 - self.b1**at.t), root / jnp.sqrt(1 - self.b2**at.t)
        return m_hat / (r_hat + self.eps), adamx.Moments(root, mean)

    def moment_estimates(self, t):
        corrections = 1 - self.b1**t, jnp.sqrt(1 - self.b2**t)
        return adamx.MomentEstimates(*corrections, self.eps, (self.b1, self.b2), mean="nu", square="mu", is_root=True)


class Misnamed(Declared):
    """A rule that names a slot that it does not have."""

    def moment_estimates(self, t):
        return adamx.MomentEstimates(square="v")


class Whole(adamx.Modifier):
    """A modifier that does not say whether it is elementwise."""

    def step(self, g, s, at):
        return self.rule.step(g, s, at)


def watched(rule, steps=3, **options):
    """The values that a monitor reads after some steps, and the state of the optimizer."""
    opt = monitor(adamx.optimizer(rule, 1e-2, **options))
    params, state, step = PARAMS, opt.init(PARAMS), jax.jit(opt.step)
    for t in range(steps):
        grads = jax.tree.map(lambda p, t=t: np.random.default_rng(t).normal(size=p.shape).astype(p.dtype), PARAMS)
        params, state = step(grads, state, params)
    return read(state), state


@pytest.mark.parametrize("wrap", [lambda rule: rule, adamx.Cautious], ids=["alone", "modified"])
@pytest.mark.parametrize(
    ("own", "like"),
    [
        (Declared(), adamx.Adam(bias_correction=False)),
        (Declared(b2=lambda t: 0.9), adamx.Adam(b2=lambda t: 0.9, bias_correction=False)),
        (Named(), adamx.Adam()),
        (Named(eps=EPS), adamx.Adam(eps=EPS)),
    ],
    ids=["uncorrected", "scheduled", "named", "scheduled_eps"],
)
def test_a_users_rule_that_declares_the_same_is_reported_like_adam(own, like, wrap):
    mine, theirs = watched(wrap(own))[0], watched(wrap(like))[0]
    assert mine.keys() == theirs.keys() and "all/snr" in mine and "all/eps_share" in mine
    for name, value in theirs.items():
        assert mine[name] == pytest.approx(value, rel=1e-4), name


def test_an_uncorrected_rule_reports_its_own_step():
    """After one step of constant gradients, m / sqrt(v) is (1 - b1) / sqrt(1 - b2), as long as the step."""
    values = watched(Declared(), steps=1)[0]
    assert values["all/snr"] == pytest.approx(0.1 / 0.001**0.5, rel=1e-4)
    assert values["all/snr"] == pytest.approx(values["all/step_max"], rel=1e-3)


def test_what_a_rule_does_not_declare_is_left_out():
    values = watched(Undeclared())[0]
    assert {"snr", "bound_share", "eps_share", "idle"}.isdisjoint(name.rpartition("/")[2] for name in values)
    assert "all/step_max" in values  # measured: the weights' change over the step size


def test_a_modifier_with_slots_of_its_own_does_not_pass_on_which_are_moments():
    assert adamx.Nesterov(adamx.Adam()).moment_estimates(jnp.float32(1)) is None
    assert adamx.Cautious(adamx.Adam()).moment_estimates(jnp.float32(1)) is not None


def test_a_slot_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="names the slot 'v', but the rule's are mu, nu"):
        watched(Misnamed())


def test_advice_on_eps_reads_the_same_declarations():
    (_, own), (_, like) = watched(Named(eps=1e-3)), watched(adamx.Adam(eps=1e-3))
    opts = [adamx.optimizer(rule, 1e-2) for rule in (Named(eps=1e-3), adamx.Adam(eps=1e-3))]
    mine, theirs = (suggest_eps(state, opt) for state, opt in zip((own, like), opts, strict=True))
    assert mine.eps == theirs.eps and mine.quantiles == pytest.approx(theirs.quantiles, rel=1e-4)
    with pytest.raises(TypeError, match="keeps no second moment with an eps"):
        suggest_eps(watched(Undeclared())[1], adamx.optimizer(Undeclared(), 1e-2))


@pytest.mark.parametrize("decayed", [False, True])
def test_the_presets_table_has_the_words_that_a_rule_declares(decayed):
    own, unknown = (adamx.Decayed(r, 0.1) if decayed else r for r in (Declared(), Undeclared()))
    recipe = Recipe(own, 1e-3, 0.1)
    assert (eps_place(recipe), bias_corrections(recipe)) == ("√v + ε", "none")
    assert decay_coupling(recipe) == ("λp before the trust ratio" if decayed else "αλp")
    recipe = Recipe(unknown, 1e-3)
    assert (eps_place(recipe), bias_corrections(recipe)) == ("unknown", "unknown")
    assert eps_place(Recipe(Declared(eps=0.0), 1e-3)) == "none"


@pytest.mark.parametrize(
    ("rule", "named"),
    [(Undeclared(), "Undeclared"), (adamx.Grams(Undeclared()), "Undeclared"), (Whole(adamx.Adam()), "Whole")],
    ids=["rule", "modified", "modifier"],
)
def test_complex_numbers_are_split_only_for_a_rule_that_says_it_is_elementwise(rule, named):
    with pytest.raises(ValueError, match=f"{named} does not say .* declare `elementwise = True`"):
        adamx.optimizer(rule, 1e-2, complex_parts="apart")
    with pytest.raises(ValueError, match="several at a time"):
        adamx.optimizer(adamx.Cautious(Undeclared()), 1e-2, complex_parts="apart")
    adamx.optimizer(adamx.Grams(Declared()), 1e-2, complex_parts="apart")


def rule_classes(*packages):
    """The rule classes that are defined in these packages, by name."""
    found = {}
    for package in packages:
        for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(info.name)
            found |= {name: x for name, x in vars(module).items() if isinstance(x, type) and issubclass(x, adamx.Rule)}
    return {name: x for name, x in found.items() if x not in (adamx.Rule, adamx.Modifier)}


@pytest.mark.parametrize("name", sorted(rule_classes(rules)))
def test_every_rule_of_the_library_declares_itself(name):
    rule = rule_classes(rules)[name]()
    assert rule.elementwise is not None
    if rule.slots:
        assert rule.eps_place is not None and rule.corrected_averages is not None


def test_no_file_names_a_rules_class_but_those_that_define_export_or_list_rules():
    classes = rule_classes(rules, modifiers, trajectories)
    assert len(classes) > 30
    for path in sorted(PACKAGE.rglob("*.py")):
        folder, *rest = path.relative_to(PACKAGE).parts
        if folder in {"rules", "modifiers", "trajectories", "kernels", "__init__.py"}:
            continue
        if folder == "presets" and not rest[0].startswith("_"):
            continue  # data: which rule another framework's optimizer is
        nodes = list(ast.walk(ast.parse(path.read_text())))
        named = {node.id for node in nodes if isinstance(node, ast.Name)}
        named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        named |= {node.name for node in nodes if isinstance(node, ast.alias)}
        assert named.isdisjoint(classes), path
