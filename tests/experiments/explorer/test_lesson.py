"""The lesson: its numbers are the paper's, its answers are right, and choosing one tells so."""

import html
import re

import pytest

from dilated_jax.nn import geometry
from dilated_jax.nn.table import Layer
from experiments.explorer import lesson
from tests.experiments.explorer.conftest import wait_for


def test_numbers_are_those_of_the_paper():
  found = lesson.numbers()
  expected = {  # Sections 2 to 4, Table 1, Appendix A, and the authors' deploy files.
    'doubled_fields': '3, 7, 15, 31, 63', 'fifth_field': '63', 'plain_layers': '31',
    'spans': '3, 5, 9, 17 and 33', 'pool5_field': '212', 'pool5_cells': '7',
    'front_end_field': '380', 'margin': '186', 'twice_margin': '372', 'voc_cells': '66',
    'context_field': '67', 'context_reach': '33', 'basic_weights': f'{64 * 21**2:,}',
    'basic_biases': str(8 * 21), 'large_weights': f'{15_422 * 21**2:,}', 'dilation7_field': '652',
    'dilation8_field': '908', 'dilation10_field': '2,444', 'wavenet_field': '1,024',
    'wavenet_three_fields': '3,070', 'gridding_read_square': '49',
  }  # fmt: skip
  assert {name: found[name] for name in expected} == expected
  rows = re.findall(r'<tr>(.*?)</tr>', found['context_table'])
  cells = {row[0]: row[1:] for row in (re.findall(r'>([^<>]+)', line) for line in rows)}
  assert cells['rate'] == ['1', '1', '2', '4', '8', '16', '1', '1']
  assert cells['field, in cells'] == ['3', '5', '9', '17', '33', '65', '67', '67']
  assert cells['ReLU'] == ['yes'] * 7 + ['no']


def chapters():
  """Title, text, and of the question: the right answer, the answers and what is said of them."""
  for chapter in lesson.contents()['text'].split('<section>')[1:]:
    title = re.search(r'<h2>(.*?)</h2>', chapter)[1]
    right = int(re.search(r'data-right="(\d)"', chapter)[1])
    answers = re.findall(r'<dt>(.*?)</dt>', chapter)
    comments = re.findall(r'<dd>(.*?)</dd>', chapter, re.DOTALL)
    assert chapter.count('class="question"') == 1
    assert len(answers) == len(comments) == 3 and 1 <= right <= 3
    yield title, chapter, right, answers, comments


def test_ten_chapters_with_a_question_each():
  assert len(list(chapters())) == 10
  assert len({title for title, *_ in chapters()}) == 10
  assert '{' not in lesson.contents()['text']


def stack(*layers):
  return tuple(Layer(f'layer{i}', **options) for i, options in enumerate(layers))


def answer(title):
  return next(answers[right - 1] for name, _, right, answers, _ in chapters() if name == title)


def test_right_answers_are_what_the_networks_say():
  field = geometry.receptive_field
  assert answer('What a cell sees') == str(field(stack(*[{}] * 4)))
  before = stack({'kernel': 6})
  pooled = (*before, Layer('pool', 'max_pool', kernel=2, stride=2))
  seen, jump = field(pooled), geometry.stride(pooled)
  assert answer('What pooling costs') == f'It sees {seen} pixels; the jump is {jump}.'
  assert answer('Spread the taps').startswith(f'9 weights, {field(stack({"dilation": 4}))} cells')
  doubled = stack(*({'dilation': 2**i} for i in range(5)))
  assert answer('Double the rate') == f'{field(doubled)} pixels'
  causal = stack(*({'dilation': 2**i, 'kernel': 2} for i in range(10)))
  assert answer('Relatives, and limits') == f'{field(causal):,}'

  *_, right, answers, _ = next(each for each in chapters() if each[0] == 'Mind the holes')
  dense = []
  for rates in answers:
    layers = stack(*({'dilation': int(rate)} for rate in rates.split(', ')))
    dense.append(bool((geometry.path_counts(layers)[1] > 0).all()))
  assert dense == [i + 1 == right for i in range(3)]


def test_links_are_to_views(shared_tab):
  for _, text, *_ in chapters():
    for address in re.findall(r'href="(#[^"]*)"', text):
      address = html.unescape(address)
      found = shared_tab.evaluate(
        '(x) => { const {name, state} = views.read(x); '
        'return [name, views.all.get(name).defaults, state]; }',
        address,
      )
      assert found[0] == re.match(r'#(\w+)', address)[1]
      for name, value in re.findall(r'[?&](\w+)=([^&]*)', address):
        assert str(found[2][name]) == value, f'{found[0]} has no {name}'


@pytest.mark.parametrize('question', [0, 5])
def test_answering(tab, question):
  right = [each[2] for each in chapters()]
  comments = [each[4] for each in chapters()]
  tab.evaluate("location.hash = 'lesson'")
  group = tab.get_by_role('group', name=f'Question {question + 1}')
  for chosen, words in ((right[question] % 3 + 1, 'Not quite.'), (right[question], 'Right.')):
    group.get_by_role('radio').nth(chosen - 1).check()
    said = tab.locator('.question').nth(question).get_by_role('status')
    said.get_by_text(words).wait_for()
    plain = html.unescape(re.sub(r'<.*?>', '', comments[question][chosen - 1]))
    assert ' '.join(said.inner_text().split()) == f'{words} {" ".join(plain.split())}'
    answers = '0' * question + str(chosen)
    wait_for(tab, f'location.hash === "#lesson?answers={answers}"')
  score = tab.locator('.lesson-score')
  assert score.inner_text() == '1 of 1 answered right (10 in all).'
  tab.go_back()
  score.get_by_text('0 of 1').wait_for()
  tab.reload()
  tab.locator('.lesson-score').get_by_text('0 of 1').wait_for()


def test_chapters_are_linked(tab):
  tab.evaluate("location.hash = 'lesson'")
  tab.get_by_role('link', name='6 Mind the holes').click()
  wait_for(tab, 'location.hash === "#lesson?chapter=6"')
  assert tab.evaluate('document.activeElement.textContent') == '6 Mind the holes'
  tab.locator('section', has_text='Mind the holes').locator('.embedded svg').first.wait_for()


def test_figures_fit_a_phone(tab):
  tab.set_viewport_size({'width': 390, 'height': 800})
  tab.evaluate("location.hash = 'lesson'")
  figure = tab.locator('.embedding', has_text='without and with rates')
  figure.scroll_into_view_if_needed()
  figure.locator('.embedded svg').first.wait_for()
  assert tab.evaluate('document.documentElement.scrollWidth') == 390
