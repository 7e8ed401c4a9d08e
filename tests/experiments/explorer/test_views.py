"""The views of the explorer's page, used as a reader does: sliders, keys, addresses, files."""

import json
import pathlib
import re
import xml.etree.ElementTree

import pytest

from dilated_jax.nn import costs, geometry, table as tables
from dilated_jax.nn.table import Layer
from tests.experiments.explorer.conftest import settle, wait_for

ROOT = pathlib.Path(__file__).parents[3]
VIEWS = ('pooling', 'growth', 'network', 'image')


def go(tab, address: str):
  """Opens a state of a view by its address."""
  tab.evaluate('(address) => { location.hash = address; }', address)
  wait_for(tab, f'views.current.name === {json.dumps(address.split("?")[0])}')
  settle(tab)


def facts(tab, place: str) -> dict[str, str]:
  return dict(
    tab.evaluate(
      """(place) => [...document.querySelectorAll(`${place} .facts > div`)].map(
        (each) => [each.querySelector('dt').textContent, each.querySelector('dd').textContent])""",
      place,
    )
  )


def state(tab) -> dict:
  return tab.evaluate('views.current.store.state')


@pytest.fixture(autouse=True)
def tidy(shared_tab):
  shared_tab.set_viewport_size({'width': 1280, 'height': 900})


LEFT, RIGHT = '.view-pooling .pair > :nth-child(1)', '.view-pooling .pair > :nth-child(2)'


@pytest.mark.parametrize(
  'layer, standard, dilated',
  [(1, 3, 3), (2, 8, 7), (3, 18, 15), (4, 38, 31)],
)
def test_pooling_beside_dilation(shared_tab, layer, standard, dilated):
  go(shared_tab, f'pooling?layer={layer}')
  left, right = facts(shared_tab, LEFT), facts(shared_tab, RIGHT)
  assert left['Receptive field'] == f'{standard} × {standard} pixels'
  assert right['Receptive field'] == f'{dilated} × {dilated} pixels'
  cells = 40 // 2 ** (layer - 1)
  assert (
    left['Output'] == f'{cells} × {cells} of 40 × 40' and right['Output'] == '40 × 40 of 40 × 40'
  )
  rows = tuple(Layer(f'{i}', padding=1, channels=64) for i in range(layer))
  parameters = f'{costs.num_parameters(rows, 64):,}'
  assert left['Parameters'] == right['Parameters'] == parameters


@pytest.mark.parametrize('rates', [(2, 2, 2), (2, 4, 8), (1, 2, 5), (1, 2, 4)])
def test_holes_are_seen(shared_tab, rates):
  right = ','.join(f'3:{rate}:1' for rate in rates)
  go(shared_tab, f'pooling?left=3:1:1,3:1:1,3:1:1&right={right}&layer=3&preset=')
  _, counts = geometry.path_counts(tuple(Layer(f'{i}', dilation=r) for i, r in enumerate(rates)))
  read, size = sum(count > 0 for count in counts), len(counts)
  expected = f'all {size**2:,}' if read == size else f'{read**2:,} of {size**2:,}'
  assert facts(shared_tab, RIGHT)['Pixels read'] == expected
  # The shades of the input's cells are the paths to the output, holes have none.
  shades = shared_tab.evaluate(
    """(side) => [...document.querySelectorAll(`${side} .stack g g:first-child .fill`)].map(
      (cell) => Number(cell.getAttribute('fill-opacity')))""",
    RIGHT,
  )
  drawn = [round(0.16 + 0.84 * (count / max(counts)) ** 0.5, 3) if count else 0 for count in counts]
  first = next(i for i, shade in enumerate(shades) if shade)
  assert shades[first : first + size] == drawn
  assert not any(shades[:first] + shades[first + size :])


def test_keys_and_pointer_move_the_cell_of_both_sides(shared_tab):
  go(shared_tab, 'pooling?x=16&y=16')
  drawing = shared_tab.locator(f'{RIGHT} svg.stack')
  drawing.focus()
  for key in ('ArrowRight', 'ArrowRight', 'ArrowUp', 'PageDown'):
    shared_tab.keyboard.press(key)
    settle(shared_tab)
  found = state(shared_tab)
  assert (found['x'], found['y'], found['layer']) == (18, 15, 3)
  assert 'Output cell 18, 15 sees 15 × 15 pixels' in drawing.get_attribute('aria-label')
  left = shared_tab.locator(f'{LEFT} svg.stack').get_attribute('aria-label')
  assert 'Output cell 4, 3 sees 18 × 18 pixels' in left  # One cell for four pixels.
  # A cell below the output shows what it reads, and what it has a part in.
  cell = shared_tab.locator(f'{RIGHT} .stack g g:nth-child(2) .cell').nth(20).bounding_box()
  shared_tab.mouse.move(cell['x'] + cell['width'] / 2, cell['y'] + cell['height'] / 2)
  settle(shared_tab)
  parts = [
    shared_tab.evaluate(
      """([side, row]) => [...document.querySelectorAll(`${side} .stack g g:nth-child(${row})
        .fill`)].flatMap((cell, i) => Number(cell.getAttribute('fill-opacity')) ? [i] : [])""",
      [RIGHT, row],
    )
    for row in (1, 2, 3, 4)
  ]
  assert parts == [[19, 20, 21], [20], [18, 20, 22], [14, 16, 18, 20, 22, 24, 26]]
  shared_tab.mouse.move(0, 0)


def test_rates_stay_legal(shared_tab):
  go(shared_tab, 'pooling')
  rate = shared_tab.get_by_label('Rate, layer 4').nth(1)
  options = rate.locator('option').all_text_contents()
  assert options == [str(i) for i in range(1, len(options) + 1)]
  rate.select_option(options[-1])
  settle(shared_tab)
  field = facts(shared_tab, RIGHT)['Receptive field']
  most = 15 + 2 * int(options[-1])
  assert field == f'{most} × {most} pixels' and most <= 96 < most + 2
  # An address may hold anything.
  for wrong in ('right=3:999:1,3:999:1', 'right=x', 'left=0:0:0&layer=99&x=1e9&y=-7', 'right='):
    go(shared_tab, f'pooling?{wrong}')
    assert int(facts(shared_tab, RIGHT)['Receptive field'].split()[0]) <= 96


def test_the_slider_moves(shared_tab):
  go(shared_tab, 'pooling')
  slider = shared_tab.get_by_label('Layers', exact=True)
  slider.focus()
  shared_tab.keyboard.press('ArrowLeft')
  settle(shared_tab)
  assert state(shared_tab)['layer'] == 3
  assert 'layer=3' in shared_tab.evaluate('location.hash')
  shared_tab.go_back()
  settle(shared_tab)
  assert state(shared_tab)['layer'] == 4 and slider.input_value() == '4'


@pytest.mark.parametrize('kernel', [2, 3, 7])
def test_growth(shared_tab, kernel):
  go(shared_tab, f'growth?kernel={kernel}&layers=7&rates=2,4,8')
  found = [
    int(n.replace(',', '')) for n in shared_tab.locator('.formulas strong').all_text_contents()
  ]
  rates = ([1] * 7, None, [2**i for i in range(7)], [2, 4, 8])
  for seen, of in zip(found, rates):
    if of:
      layers = tuple(Layer(f'{i}', kernel=kernel, dilation=rate) for i, rate in enumerate(of))
      assert seen == geometry.receptive_field(layers)
  remark = shared_tab.locator('.view-growth p[role=status]').first.text_content()
  assert 'Your rates leave holes' in remark


def test_1024_or_1025(shared_tab):
  from dilated_jax.signal import wavenet

  for blocks, first in ((1, 1), (1, 2), (3, 1), (3, 2)):
    go(shared_tab, f'growth?repeat={blocks}&first={first}')
    answer = shared_tab.locator('.answer strong').text_content()
    stack = wavenet.stack([2**i for i in range(10)] * blocks, 1, 1, 2)
    seen = geometry.receptive_field((Layer('first', kernel=first), *stack))
    assert (
      answer
      == f'{seen:,}'
      == {(1, 1): '1,024', (1, 2): '1,025', (3, 1): '3,070'}.get((blocks, first), '3,071')
    )


def test_queues(shared_tab):
  go(shared_tab, 'growth?steps=4&time=30')
  for queues, fresh, read in ((True, 5, 4), (False, 31, 0)):
    go(shared_tab, f'growth?steps=4&time=30&queues={json.dumps(queues)}')
    count = shared_tab.locator('.view-growth .node.fresh').count()
    # Samples count as values that are there: 16 of them, one of which is new.
    assert count == fresh and shared_tab.locator('.view-growth .node.read').count() == read
  shared_tab.get_by_role('button', name='Next sample').click()
  settle(shared_tab)
  assert state(shared_tab)['time'] == 31


@pytest.fixture(scope='module')
def networks(page_contents):
  return page_contents['networks']


def test_every_network_is_shown_as_python_derives_it(shared_tab, networks):
  titles = [network['title'] for network in networks]
  go(shared_tab, 'network')
  options = shared_tab.get_by_label('Network', exact=True).locator('option').all_text_contents()
  assert options[:-1] == titles
  for index, network in enumerate(networks):
    go(shared_tab, f'network?net={index}')
    rows = shared_tab.evaluate(
      """[...document.querySelectorAll('.layers-table tbody tr')].map(
        (row) => [...row.children].map((cell) => cell.textContent))"""
    )
    derived = network['derived']
    number = '{:,}'.format
    for i, (layer, row) in enumerate(zip(network['table'], rows, strict=True)):
      assert row[0] == layer['name']
      field = derived['field'][i]
      assert row[7] == ('all' if field is None else number(field))
      assert row[10] == f'{number(derived["height"][i])} × {number(derived["width"][i])}'
      assert row[11] == (number(derived['parameters'][i]) if derived['parameters'][i] else '')
    assert facts(shared_tab, '.view-network')['Parameters'] == number(
      network['network']['parameters']
    )


def test_what_900_372_186_and_33_mean(shared_tab):
  go(shared_tab, 'network')
  meanings = shared_tab.evaluate(
    """Object.fromEntries([...document.querySelectorAll('.meanings > div')].map(
      (each) => [...each.children].map((child) => child.textContent)))"""
  )
  assert set(meanings) == {'900', '372', '186', '380', '33', '67'}
  assert '66 cells × 8 + 372' in meanings['900'] and '186 on each side' in meanings['372']
  assert '(380 − 8) / 2' in meanings['186'] and '1 + 1 + 2 + 4 + 8 + 16 + 1' in meanings['33']


@pytest.mark.parametrize('name', ['length', '__proto__', '-1', '99'])
def test_an_address_of_no_network_shows_the_first(shared_tab, networks, name):
  go(shared_tab, f'network?net={name}')
  assert shared_tab.get_by_label('Network', exact=True).input_value() == '0'
  assert shared_tab.locator('.layers-table tbody tr').count() == len(networks[0]['table'])


def test_caffe_rounding_is_told(shared_tab, networks):
  kitti = next(i for i, each in enumerate(networks) if 'KITTI' in each['title'])
  go(shared_tab, f'network?net={kitti}')
  assert facts(shared_tab, '.view-network')['Output'] == '60 × 159'
  text = shared_tab.locator('.view-network').text_content()
  assert 'in pool3 the last window overhangs' in text and 'would be 60 × 158' in text
  width = shared_tab.get_by_label('Input width', exact=True)
  width.fill('1644')
  width.press('Enter')
  settle(shared_tab)
  assert facts(shared_tab, '.view-network')['Output'] == '60 × 159'
  assert 'No pooling has to round' in shared_tab.locator('.view-network').text_content()
  width.fill('100')
  width.press('Enter')
  settle(shared_tab)
  assert 'too small' in facts(shared_tab, '.view-network')['Output']


def test_a_table_is_pasted(shared_tab):
  go(shared_tab, 'network?net=own')
  text = shared_tab.get_by_label(re.compile('Layers as JSON'))
  text.fill(
    '[{"dilation": 2, "channels": 8}, {"dilation": 4, "name": "<img src=x onerror=alert(1)>"}]'
  )
  text.blur()
  settle(shared_tab)
  found = facts(shared_tab, '.view-network')
  assert found['Receptive field'] == '13 × 13 pixels'
  assert found['Parameters'] == f'{(27 + 1) * 8 + (72 + 1) * 8}'
  assert 'reads 7 of 13 pixels' in shared_tab.locator('.view-network').text_content()
  assert shared_tab.locator('.layers-table img').count() == 0
  assert 'onerror' in shared_tab.locator('.layers-table').text_content()
  text.fill('[{"kernel": 0}]')
  text.blur()
  settle(shared_tab)
  assert 'kernel is 0' in shared_tab.locator('.view-network [role=alert]').text_content()
  text.fill(json.dumps([{'kernel': 5}]))
  settle(shared_tab)
  assert facts(shared_tab, '.view-network')['Receptive field'] == '5 × 5 pixels'


def test_fields_on_the_photograph(shared_tab):
  go(shared_tab, 'image?point=0')
  wait_for(shared_tab, "document.querySelector('.glow')?.getAttribute('href')")
  first, second = shared_tab.locator('.view-image svg.photo').all()
  images = shared_tab.locator('.view-image .glow')
  before = images.first.get_attribute('href')
  first.focus()
  shared_tab.keyboard.press('ArrowRight')
  shared_tab.keyboard.press('ArrowDown')
  settle(shared_tab)
  assert state(shared_tab)['point'] == 8 and images.first.get_attribute('href') != before
  fields = [
    int(re.search(r'field is (\d+) pixels', drawing.get_attribute('aria-label'))[1])
    for drawing in (first, second)
  ]
  assert fields[0] < fields[1]
  shared_tab.get_by_label('paths, counted').check(force=True)
  settle(shared_tab)
  assert state(shared_tab)['show'] == 'paths'


def test_animations_play_and_end(shared_tab):
  go(shared_tab, 'growth?layers=2&time=62&steps=2')
  grow = shared_tab.get_by_role('button', name='Grow')
  # In one go: on a busy machine it may be over before another question arrives.
  assert grow.evaluate('(button) => { button.click(); return button.textContent; }') == 'Pause'
  wait_for(
    shared_tab, "[...document.querySelectorAll('button')].some((b) => b.textContent === 'Grow')"
  )
  shared_tab.get_by_role('button', name='Run').click()
  wait_for(shared_tab, 'views.current.store.state.time !== 62')
  go(shared_tab, 'pooling')  # Who leaves ends it.
  go(shared_tab, 'growth')
  shared_tab.get_by_role('button', name='Run').wait_for()


def test_a_finger_taps(shared_tab):
  go(shared_tab, 'pooling')
  above = shared_tab.locator(f'{RIGHT} svg.above')
  above.dispatch_event('pointerdown', {'clientX': 0, 'clientY': 0})
  box = above.bounding_box()
  above.dispatch_event(
    'pointerdown', {'clientX': box['x'] + box['width'] / 4, 'clientY': box['y'] + box['height'] / 2}
  )
  settle(shared_tab)
  assert state(shared_tab)['x'] == 9 and state(shared_tab)['y'] == 20


@pytest.mark.parametrize('view', VIEWS)
def test_figures_are_saved(shared_tab, view):
  go(shared_tab, view)
  for kind in ('SVG', 'PNG'):
    for button in shared_tab.locator(f'.view-{view} .save button:text("{kind}")').all()[-2:]:
      with shared_tab.expect_download() as started:
        button.click()
      path = started.value.path()
      assert started.value.suggested_filename.endswith(kind.lower())
      if kind == 'SVG':
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == '{http://www.w3.org/2000/svg}svg' and len(list(root.iter())) > 5
        # It looks the same without the page: colors stand in it.
        assert 'var(' not in path.read_text('utf-8')
      else:
        assert path.read_bytes().startswith(b'\x89PNG')


def test_a_frame_from_before_the_click_moves_nothing(shared_tab):
  seconds = shared_tab.evaluate("""() => {
    const kept = window.requestAnimationFrame, found = [];
    let frame = null;
    window.requestAnimationFrame = (given) => { frame = given; };
    controls.player({tick: (passed) => { found.push(passed); return false; }}).play();
    window.requestAnimationFrame = kept;
    frame(performance.now() - 50);
    return found;
  }""")
  assert seconds == [0]


@pytest.mark.parametrize('width', [390, 1280])
def test_nothing_is_wider_than_the_screen(shared_tab, width):
  shared_tab.set_viewport_size({'width': width, 'height': 844})
  for view in VIEWS:
    go(shared_tab, view)
    assert shared_tab.evaluate('document.documentElement.scrollWidth') <= width, view


@pytest.mark.parametrize(
  'scheme, rules', [('light', {}), ('dark', {'runOnly': ['color-contrast']})]
)
def test_axe_finds_nothing(shared_tab, scheme, rules):
  scripts = sorted(ROOT.glob('.cache/axe-core-*/axe.min.js'))
  if not scripts:
    pytest.skip('no axe-core: .ci/browser fetches it')
  shared_tab.emulate_media(color_scheme=scheme, reduced_motion='reduce')
  shared_tab.evaluate(scripts[-1].read_text('utf-8'))
  for view in VIEWS:
    go(shared_tab, view)
    found = shared_tab.evaluate('(rules) => axe.run(rules)', rules)
    assert found['passes'] and not [
      (rule['id'], rule['nodes'][0]['html']) for rule in found['violations']
    ], view


def test_the_paper(shared_tab):
  """The context module's own rates, in the view that compares."""
  go(shared_tab, 'pooling')
  shared_tab.get_by_label('Compare', exact=True).select_option(
    'The paper’s module, without and with rates'
  )
  settle(shared_tab)
  size = geometry.receptive_field(tables.context(21))
  assert facts(shared_tab, RIGHT)['Receptive field'] == f'{size} × {size} pixels'
  assert facts(shared_tab, LEFT)['Receptive field'] == '15 × 15 pixels'
