"""What classes.json states is used, and wrong files are refused."""

import json

import hypothesis
from hypothesis import strategies as st
import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.errors import InputError
from tests.data.folder.folders import COLORS, check, ids, make, refused, say


def test_color_masks_by_the_palette_of_classes_json(tmp_path):
  make(tmp_path, label=COLORS[ids(0, 1, 2)])
  say(tmp_path, names=['car', 'road'], palette=[[0, 0, 142], [128, 64, 128]])
  check(tmp_path, ids(255, 1, 0), ('car', 'road'))
  say(tmp_path, palette=[[0, 0, 142], [1, 1, 1]])
  refused(tmp_path, r'a\.png: has #804080, which belong to no class')
  say(tmp_path, names=['car', 'road'])
  refused(
    tmp_path, r'classes\.json: names 2 classes, and the labels are color masks; add "palette"'
  )
  say(tmp_path, ignore=[[128, 64, 128]])
  check(tmp_path, ids(0, 255, 1), ('#000000', '#00008e'))


def test_classes_json_for_numbers(tmp_path):
  make(tmp_path, label=ids(0, 1, 2, 11))
  say(tmp_path, names=['sky', 'road', 'car'], ignore=[11], mean=[1, 2.5, 3])
  check(tmp_path, ids(0, 1, 2, 255), ('sky', 'road', 'car'))
  assert data.classes('folder', tmp_path).mean == (1, 2.5, 3)
  say(tmp_path, names=['sky', 'road', 'car'])
  refused(tmp_path, r'has 11, which belong to no class')
  say(tmp_path, names=['car', 'sky'], ids=[2, 0], ignore=[1, 11])
  check(tmp_path, ids(1, 255, 0, 255), ('car', 'sky'))
  say(tmp_path, names=['road', 'car'], ignore=[0, 11])  # Ids are 1 and 2 then.
  check(tmp_path, ids(255, 0, 1, 255), ('road', 'car'))
  say(tmp_path, ignore=[0])
  check(tmp_path, ids(255, 0, 1, 2))


@pytest.mark.parametrize(
  'text, words',
  [
    ('{', 'is not JSON'),
    ('\xff', 'is not JSON|is not a JSON object'),
    ('[]', 'is not a JSON object'),
    ('[' * 100_000, 'is not JSON'),
    ('{"name": []}', "unknown field 'name'"),
    ('{"names": "sky"}', '"names" must be a list of names'),
    ('{"names": []}', '"names" has 0 elements'),
    ('{"names": ["a", "a"]}', '"names" has an element twice'),
    ('{"names": ["a", "b"], "palette": [[0, 0, 0]]}', '2 names and 1 elements in "palette"'),
    ('{"palette": [[0, 0, 256]]}', '"palette" must be a list of colors'),
    ('{"palette": [[0, 0, 1], [0, 0, 2]], "ids": [3]}', '1 ids and 2 colors'),
    ('{"ids": [true]}', '"ids" must be a list of numbers'),
    ('{"ids": [300]}', '"ids" must be a list of numbers'),
    ('{"ids": [1, 2], "ignore": [2]}', '2 is in "ids" and in "ignore"'),
    ('{"palette": [[1, 2, 3], [4, 5, 6]], "ignore": [[1, 2, 3]]}', 'color .1, 2, 3. is in'),
    ('{"mean": [1, 2]}', '"mean" must be three numbers'),
    ('{"mean": [0.48, 0.46, 0.41]}', '"mean" is one of images of 0 to 1; give 255 times'),
    ('{"mean": [NaN, 1, 2]}', '"mean" must be a list of numbers'),
  ],
)
def test_classes_json_that_is_wrong(tmp_path, text, words):
  make(tmp_path)
  (tmp_path / 'classes.json').write_text(text, 'latin-1')
  refused(tmp_path, rf'classes\.json: .*({words})')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'cp1252'])
def test_classes_json_from_other_platforms(tmp_path, encoding):
  make(tmp_path)
  text = '{"names": ["Straße", "Auto",\r\n "Café"]}'
  (tmp_path / 'classes.json').write_bytes(text.encode(encoding))
  assert data.classes('folder', tmp_path).names == ('Straße', 'Auto', 'Café')


JSON = st.recursive(
  st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=5),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
  max_leaves=10,
)


@hypothesis.given(
  st.dictionaries(st.sampled_from(['names', 'palette', 'ids', 'ignore', 'mean', 'detected']), JSON)
)
def test_any_classes_json_is_understood_or_refused(tmp_path_factory, content):
  path = tmp_path_factory.mktemp('spec') / 'classes.json'
  path.write_text(json.dumps(content))
  try:
    spec = folder.read_classes_file(path)
  except InputError as error:
    assert '\n' not in str(error)
  else:
    assert not spec.names or all(isinstance(name, str) for name in spec.names)
