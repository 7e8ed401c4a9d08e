"""Gradients in float32 against those in float64: of every public function that has them.

Public functions and modules of the packages that compute are found in their source. What is new
there must either get a case below, or be named among those without a gradient.
"""

import ast
import fnmatch
import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dilated_jax
from dilated_jax import models
from dilated_jax.crf import CrfRnn, dense_crf, exact, kernels, lattice, mean_field
from dilated_jax.inference import upsampling as inference_upsampling
from dilated_jax.models import registry, upsampling, weights_folder
from dilated_jax.models.options import ContextOptions, VggOptions
from dilated_jax.nn import ops
from dilated_jax.nn.dropout import Dropout
from dilated_jax.nn.normalization import BatchNorm, batch_norm
from dilated_jax.nn.stack import Stack
from dilated_jax.nn.table import Layer
from dilated_jax.signal import wavelets, wavenet
from dilated_jax.training import diagnostics, loops, losses, step as train_step
from dilated_jax.training.stages import STAGES

# Of differences to the largest number of a gradient. Rounding of float32 is 6e-8.
OF_OPERATIONS, OF_NETWORKS = 2e-5, 1e-3

PACKAGES = ('crf', 'nn', 'models', 'signal', 'inference', 'training')
RNG = np.random.default_rng(0)


def drawn(*shape, low=-2.0, high=2.0):
  return RNG.uniform(low, high, shape)


@pytest.fixture(autouse=True)
def numbers_of_its_own():
  """Whatever ran before: of some draws a layer of two channels is off, and its gradient zero."""
  RNG.bit_generator.state = np.random.default_rng(2).bit_generator.state


IMAGES, LABELS = RNG.integers(0, 256, (2, 6, 7, 3), np.uint8), RNG.integers(0, 3, (2, 6, 7))
LABELS[0, 1:3] = 255
MAPS, FEATURES, VALUES = drawn(2, 6, 7, 3), drawn(42, 3, low=0, high=4), drawn(42, 4)
MATRICES = drawn(2, 4, 4)


def filtered(apply):
  """By the lattice of features that a gradient reaches."""
  return lambda features, x: apply(lattice.build_traced(features, 300), x)


def problem(unary, features, matrices):
  built = [kernels.build_kernel([features], 'exact', traced=True)] * 2
  return mean_field.assemble(unary, built, list(matrices), ('symmetric', 'after'))


def in_problem(function):
  return lambda unary, features, matrices: function(problem(unary, features, matrices))


def marginals(given):
  return mean_field.softmax(-given.unary)


def module_of(module, x, *arguments, method=None, **options):
  """The case of a Flax module: of its parameters, drawn, and of its first input."""
  rngs = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}

  def init(x):
    return module.init(rngs, x, *arguments, method=method, **options)

  shapes = jax.eval_shape(init, np.float32(x))
  variables = jax.tree_util.tree_map_with_path(leaf_of, shapes)

  def apply(params, x):
    wide = module.clone(dtype=x.dtype) if hasattr(module, 'dtype') else module
    # As in use: they are float32, whatever is computed in.
    given = variables | {'params': jax.tree.map(lambda leaf: leaf.astype(np.float32), params)}
    kinds = [*shapes.keys() - {'params'}, 'crf_rnn']
    run = functools.partial(wide.apply, given, x, *arguments, method=method, **options)
    return run(rngs=rngs, mutable=kinds)[0]

  return apply, variables.get('params', {}), x


def leaf_of(path, like):
  """A parameter or statistic; none is zero."""
  if path[-1].key in ('scale', 'var'):
    return RNG.uniform(0.5, 1.5, like.shape).astype(np.float32)
  spread = 0.1 if len(like.shape) < 2 else np.sqrt(2 / np.prod(like.shape[:-1]))
  return RNG.normal(0, spread, like.shape).astype(np.float32)


UNIT = Layer('unit', kernel=2, dilation=2, channels=3)
NORMED = (
  Layer('one', kernel=3, channels=8, padding=1, activation='relu', norm='group'),
  Layer('two', kernel=3, channels=4, dilation=2, padding=2, norm='batch', bias=False, dropout=0.5),
)
FRONT_END = models.create('front_end', 3)
AUDIO = models.create('wavenet', 5, dilations=[1, 2], channels=3, skip_channels=4)

# By the names of the functions that they are of, separated by spaces: a function of arrays, and
# these. Float arrays have gradients, in trees too.
CASES = {
  'crf.dense.dense_crf crf.dense.build_problem': lambda: (
    lambda unary, features: dense_crf(
      unary, IMAGES[0], gaussian=None, bilateral=(80, 60, 3), iterations=3, method='exact',
      kernels=[(features.reshape(6, 7, 3), 3)],
    ),
    drawn(6, 7, 4, low=0), FEATURES,
  ),
  'crf.exact.apply crf.kernels.apply_kernel crf.kernels.build_kernel': lambda: (
    lambda features, x: kernels.apply_kernel(exact.ExactKernel(features), x), FEATURES, VALUES,
  ),
  'crf.lattice.apply crf.lattice.build_traced': lambda: (
    filtered(lattice.apply), FEATURES, VALUES,
  ),
  'crf.lattice.apply_transposed': lambda: (
    filtered(lattice.apply_transposed), FEATURES, VALUES,
  ),
  'crf.mean_field.unrolled_logits crf.mean_field.assemble': lambda: (
    in_problem(lambda made: mean_field.unrolled_logits(made, 3)), VALUES, FEATURES, MATRICES,
  ),
  'crf.mean_field.update crf.mean_field.softmax': lambda: (
    in_problem(lambda made: mean_field.update(made, marginals(made))), VALUES, FEATURES, MATRICES,
  ),
  'crf.mean_field.free_energy': lambda: (
    in_problem(lambda made: mean_field.free_energy(made, marginals(made))),
    VALUES, FEATURES, MATRICES,
  ),
  'crf.rnn.CrfRnn.__call__': lambda: module_of(
    CrfRnn(3, iterations=2, bilateral=(5.0, 60.0), method='exact', train_bandwidths=True),
    MAPS, IMAGES, True,
  ),
  'nn.dropout.Dropout.__call__': lambda: module_of(Dropout(0.5), MAPS, train=True),
  'nn.normalization.BatchNorm.__call__': lambda: module_of(BatchNorm(), MAPS, train=True),
  'nn.normalization.batch_norm': lambda: (
    lambda *given: batch_norm(*given, dtype=given[0].dtype)[0], MAPS, drawn(3), drawn(3),
  ),
  'nn.ops.dilated_conv': lambda: (
    lambda x, kernel: [
      ops.dilated_conv(x, kernel), ops.dilated_conv(x, kernel, 2, 2),
      ops.dilated_conv(x, kernel, (1, 2), 'SAME'), ops.dilated_conv(x, kernel, 1, 3, stride=2),
      ops.dilated_conv(x, kernel[:1, :1]), ops.dilated_conv(x, kernel, 2, ((2, 0), (5, 4))),
    ],
    MAPS, drawn(3, 3, 3, 4),
  ),
  'nn.ops.add_bias': lambda: (ops.add_bias, MAPS, drawn(3)),
  'nn.ops.only_own': lambda: (lambda x: ops.only_own(x, np.array([3, 4])), MAPS),
  'nn.ops.max_pool': lambda: (
    lambda x: [ops.max_pool(x), ops.max_pool(x[:, :, :6]), ops.max_pool(x, 3, 2, 1)], MAPS,
  ),
  'nn.ops.avg_pool': lambda: (lambda x: ops.avg_pool(x, 3, 2, 1), MAPS),
  'nn.ops.adaptive_avg_pool': lambda: (lambda x: ops.adaptive_avg_pool(x, 4), MAPS),
  'nn.ops.resize': lambda: (
    lambda x: [
      ops.resize(x, (9, 4), align_corners=True),
      ops.resize(x, (4, 9), align_corners=False, antialias=True),
    ],
    MAPS,
  ),
  'nn.ops.deconvolution nn.ops.resize_corner models.upsampling.upsample': lambda: (
    lambda x: [upsampling.upsample(x, 4, method) for method in ('deconvolution', 'corner')], MAPS,
  ),
  'inference.upsampling.resized inference.upsampling.to_labels': lambda: (
    lambda x: inference_upsampling.to_labels(FRONT_END, 'corner', x, ((40, 50), (30, 60)))[1], MAPS,
  ),
  'nn.stack.Conv.__call__ nn.stack.Stack.__call__': lambda: module_of(
    Stack(NORMED), MAPS, True,
  ),
  'signal.wavelets.starlet signal.wavelets.reconstruct signal.wavelets.smooth': lambda: (
    lambda x: wavelets.reconstruct(2 * wavelets.starlet(x, 2, 2) ** 2, 2), drawn(9, 8),
  ),
  'signal.wavelets.denoise signal.wavelets.estimate_noise_std': lambda: (
    lambda x: [wavelets.denoise(x, 2, 1.0, mode=mode) for mode in ('hard', 'soft')], drawn(9, 8),
  ),
  'signal.wavenet.WaveNet.apply_one_hot signal.wavenet.Conv.__call__ '
  'signal.wavenet.GatedUnit.__call__ signal.wavenet.WaveNet.__call__': lambda: module_of(
    AUDIO, drawn(2, 9, 5), method='apply_one_hot',
  ),
  'signal.wavenet.GatedUnit.step signal.wavenet.Conv.step': lambda: module_of(
    wavenet.GatedUnit(UNIT, 4), drawn(2, 1, 1, 3), jnp.ones((2, 1, 1, 3)),
    method='step',
  ),
  'training.losses.cross_entropy': lambda: (
    lambda x, weights: [
      losses.cross_entropy(x, LABELS)[0], losses.cross_entropy(x, LABELS, weights),
      losses.cross_entropy(x, LABELS, label_smoothing=0.3)[0],
    ],
    MAPS, drawn(3, low=0),
  ),
  'training.losses.soft_jaccard': lambda: (lambda x: losses.soft_jaccard(x, LABELS), MAPS),
  'training.diagnostics.gradient_norms': lambda: (
    lambda x: diagnostics.gradient_norms({'front_end': {'conv': {'kernel': x}}}), MAPS,
  ),
  'training.loops.scan': lambda: (
    lambda x: loops.scan(lambda carry, each: (carry * jnp.sin(each), carry), x[0, 0, 0], x[0, 0]),
    MAPS,
  ),
}  # fmt: skip

# Patterns of the names of others, with the reason.
WITHOUT = {
  'crf.checks.*': 'they check',
  'crf.kernels.is_traced': 'a truth value',
  'crf.points.*': 'whole numbers',
  'crf.lattice.build': 'on the host',
  'crf.lattice.scaled': 'its docstring says so',
  'crf.mean_field.solve': 'a loop of unknown length; its docstring says so',
  'nn.dropout.bernoulli': 'random bits',
  'nn.ops.is_own': 'truth values',
  'models.resnet.normed': 'rows of a table',
  'models.pretrained.*': 'files',
  'models.spec.*': 'files',
  'models.stored_arrays.*': 'files',
  'models.weights_folder.*': 'files',
  'models.protocol.*': 'declarations, of what is in `models.dilation` and `models.crf_rnn`',
  'models.dilation.Dilation.*': 'in the steps of the networks below',
  'models.crf_rnn.CrfRnnModel.*': 'in the step of a network below',
  'signal.audio.*': 'whole numbers, and files',
  'signal.wavenet.WaveNet.step': 'codes; its units are above',
  'signal.wavenet.generate*': 'codes',
  'inference.tiling.*': 'on the host',
  'inference.windows.*': 'on the host',
  'inference.upsampling.by_rows': 'NumPy arrays',
  'training.losses.count_correct': 'whole numbers',
  'training.diagnostics.identity_drift': 'numbers of a report',
  'training.diagnostics.Activations.*': 'numbers of a report',
  'training.step.create_state': 'weights as they are',
  'training.step.merge_variables': 'weights as they are',
  'training.step.make_step': 'in the steps of the networks below',
  **{
    f'training.{module}.*': 'how a run is done'
    for module in (
      'checkpoints', 'feature_cache', 'inputs', 'loop', 'memory', 'optimizers', 'parallel',
      'profile', 'run_logger', 'stage_run', 'trackers', 'workdir',
    )
  },
}  # fmt: skip


def public_functions() -> dict[str, bool]:
  """Names of the functions and methods of the packages; whether they may be given JAX's arrays."""
  root = pathlib.Path(dilated_jax.__file__).parent

  def functions(body, name):
    for node in body:
      own = f'{name}.{node.name}' if hasattr(node, 'name') else ''
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        yield from functions(node.body, own)
      if isinstance(node, ast.FunctionDef) and (own.endswith('__call__') or '._' not in own):
        arguments = [*node.args.args, *node.args.kwonlyargs]
        arguments += [each for each in (node.args.vararg, node.args.kwarg) if each]
        types = [ast.unparse(each.annotation) for each in arguments if each.annotation]
        plain = [each.arg for each in arguments if not each.annotation]
        of_arrays = any(re.search(r'AnyArray|jax\.Array|ArrayLike', each) for each in types)
        yield own, bool({*plain} - {'self', 'cls'}) or of_arrays

  found = {}
  for package in PACKAGES:
    for path in sorted((root / package).rglob('*.py')):
      name = '.'.join(path.relative_to(root).with_suffix('').parts)
      found.update(functions(ast.parse(path.read_text()).body, name))
  return found


def test_every_public_function_is_here():
  functions, cases = public_functions(), set(' '.join(CASES).split())
  found = {name for name, of_arrays in functions.items() if of_arrays}
  gone = sorted(cases - functions.keys())
  assert not gone, 'there are no such functions any more'
  new = [name for name in found - cases if not any(fnmatch.fnmatch(name, p) for p in WITHOUT)]
  assert not new, 'give them a case, or say in WITHOUT why they have no gradient'
  unused = [pattern for pattern in WITHOUT if not fnmatch.filter(found - cases, pattern)]
  assert not unused, 'there are no such functions any more'


def gradients(function, arrays, wide: bool):
  """To all arrays of floats, of the sum of all outputs, each number with a weight of its own."""
  arrays = jax.tree.map(lambda x: np.asarray(x, np.float32 if not wide else np.float64), arrays)

  def total(arrays):
    parts = jax.tree.leaves(function(*arrays))
    return sum((jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype)) * x.ravel()).sum() for x in parts)

  return jax.jit(jax.grad(total))(arrays)


def compare(found, expected, tolerance):
  (leaves, structure), (exact_leaves, same) = map(jax.tree.flatten, (found, expected))
  assert structure == same
  for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), exact_leaves):
    one, other = np.float64(one), np.float64(other)
    assert np.isfinite(other).all() and other.any(), f'{path} is no test'
    error = abs(one - other).max() / abs(other).max()
    assert error <= tolerance, f'{jax.tree_util.keystr(path)}: {error:.1e}'
  assert leaves


def in_full(name: str, *short: str) -> list:
  """The mark of what `make test` leaves out."""
  return [] if name.startswith(short) else [pytest.mark.attack]


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=in_full(name, 'nn.', 'training.', 'crf.exact.'), id=name)
    for name in CASES
  ],
)
def test_operations(name):
  function, *arrays = CASES[name]()
  # What is compared is one function of the same numbers.
  arrays = jax.tree.map(np.float32, arrays)
  found = gradients(function, arrays, wide=False)
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    expected = gradients(function, arrays, wide=True)
  compare(found, expected, OF_OPERATIONS)


def networks():
  for name in models.NAMES:
    kind = registry._NETWORKS[name].options
    options = {'width': 1 / 32, 'blocks': (1,) * (5 if issubclass(kind, VggOptions) else 4)}
    if issubclass(kind, VggOptions):
      options |= {'fc_channels': 4, 'fc_kernel': 3}
    if issubclass(kind, ContextOptions):
      options |= {'context': 'basic', 'dilations': (1, 2, 1)}
    options = {key: options[key] for key in options.keys() - registry._NETWORKS[name].fixed.keys()}
    yield pytest.param(name, options, id=name)
    if name == 'dilation8':
      yield pytest.param(name, options | {'crf': 'rnn'}, id=f'{name} and a CRF-RNN')


@pytest.mark.attack
@pytest.mark.parametrize('name, options', list(networks()))
def test_training_steps(name, options):
  """The gradient that an optimizer is given, of all layers at once."""
  model = models.create(name, 3, **options)
  variables = jax.tree_util.tree_map_with_path(leaf_of, weights_folder.abstract_variables(model))
  side = 2 * model.margin + 4 * model.stride
  batch = {
    'image': np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8),
    'label': np.random.default_rng(2).integers(0, 3, (2, *[4 * model.stride] * 2), np.uint8),
  }
  keep = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda found, _, params: (jax.tree.map(jnp.zeros_like, params), found),
  )

  def gradient(model):
    stage = STAGES['joint' if 'context' in options else 'front_end']
    step = train_step.make_step(model, stage, keep, (100, 110, 120), loss_resolution='full')
    state = train_step.create_state(variables, stage, keep, jax.random.key(0))
    return jax.jit(lambda *given: step(*given)[0].opt_state)(state, batch)

  found = gradient(model)
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    if options.get('crf'):
      wide = model.clone(network=model.network.clone(dtype=np.float64))
    else:
      wide = model.clone(dtype=np.float64)
    expected = gradient(wide)
  compare(found, expected, OF_NETWORKS)
