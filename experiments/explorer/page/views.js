'use strict';
// The views of the page, one seen at a time, and their states, which stand in the address:
// #pooling?layers=3&rates=1,2,4. Back and forward go through what was settled on.
//
// views.add({
//   name,       in the address
//   title,      in the navigation and above the view
//   lead,       a sentence or two below the title; optional
//   defaults,   the state to begin with: numbers, booleans and texts. What differs is in the address.
//   create(root, store),
// })
// `create` is called once, when the view is first looked at, and puts its elements into `root`. It
// returns {update(state), show(), hide()}: `update` draws a state, and is called at first and
// whenever it has changed; `show` and `hide`, both optional, are called when the view comes and goes
// (an animation pauses). What comes from the address may be anything of the right type: `update`
// has to make it valid.
//   store.state        the state now
//   store.set(changes, final = true)  changes it, and calls `update` in the next frame; false while a
//                      slider moves: back and forward don't stop there.
//
// views.embed(name, root, state) puts a view into another one, with a state of its own that is not
// in the address; it returns the same `store`, and what `create` returned as `store.view`.

const views = (() => {
  const {html} = dom;
  const all = new Map();  // By name: what `add` was given, and once it was looked at, its instance.
  let current = null;
  const embedded = [];  // Views in views: {root, store}.

  function add(view) {
    all.set(view.name, {defaults: {}, lead: '', ...view});
  }

  // A state and whoever draws it. changed(final) is called after each change.
  function makeStore(view, root, state, changed) {
    const store = {state, frame: null, view: null};
    store.draw = () => {
      if (store.frame !== null) cancelAnimationFrame(store.frame);
      store.frame = null;
      store.view.update(store.state);
    };
    store.set = (changes, final = true) => {
      store.state = {...store.state, ...changes};
      if (store.frame === null) store.frame = requestAnimationFrame(store.draw);
      changed(final);
    };
    store.view = view.create(root, store);
    return store;
  }

  function embed(name, root, state = {}) {
    const view = all.get(name);
    const store = makeStore(view, root, {...view.defaults, ...state}, () => {});
    embedded.push({root, store});
    store.draw();
    return store;
  }

  // Addresses.

  function write(name, state) {
    const {defaults} = all.get(name);
    const parts = Object.entries(state)
      .filter(([key, value]) => key in defaults && value !== defaults[key])
      .map(([key, value]) => `${key}=${encodeURIComponent(value).replaceAll('%2C', ',').replaceAll('%3A', ':')}`);
    return `#${name}${parts.length ? `?${parts.join('&')}` : ''}`;
  }

  function read(address) {
    const [name, query = ''] = address.replace(/^#/, '').split('?', 2);
    const view = all.get(name) ?? all.values().next().value;
    const state = {...view.defaults};
    for (const [key, text] of new URLSearchParams(query)) {
      if (!(key in state)) continue;
      const kind = typeof state[key];
      if (kind === 'number' && text.trim() && Number.isFinite(Number(text))) state[key] = Number(text);
      if (kind === 'boolean') state[key] = text === 'true';
      if (kind === 'string') state[key] = text;
    }
    return {name: view.name, state};
  }

  let timer = null, pushed = null;

  // Browsers refuse many changes of the address in a short time, so it waits for a moment's rest.
  function remember(final) {
    clearTimeout(timer);
    if (final) return settle();
    timer = setTimeout(() => history.replaceState(null, '', write(current.name, current.store.state)), 200);
  }

  function settle() {
    const address = write(current.name, current.store.state);
    // Where the hand rested on its way, the address has followed it: one goes back to where it began.
    if (pushed !== null && location.hash !== pushed) history.replaceState(null, '', pushed);
    if (address === pushed) return;
    if (pushed === null) history.replaceState(null, '', address);
    else history.pushState(null, '', address);
    pushed = address;
  }

  // Shows what the address says.
  function follow() {
    const {name, state} = read(location.hash);
    clearTimeout(timer);
    const view = all.get(name);
    if (current !== view) {
      if (current) {
        current.section.hidden = true;
        current.store.view.hide?.();
      }
      current = view;
      open(view, state);
      view.section.hidden = false;
      document.title = `${view.title} · ${views.title}`;
      for (const link of document.querySelectorAll('#navigation a')) {
        const here = link.hash === `#${name}`;
        dom.set(link, {'aria-current': here ? 'page' : null});
        if (here) link.scrollIntoView({block: 'nearest', inline: 'nearest'});
      }
      view.store.view.show?.();
    }
    view.store.state = state;
    view.store.draw();
    pushed = write(name, state);
  }

  function open(view, state) {
    if (view.store) return;
    const label = dom.id('view');
    const root = html('div', {class: `view view-${view.name}`});
    view.section = html('section', {'aria-labelledby': label},
      html('h1', {id: label}, view.title), view.lead ? html('p', {class: 'lead'}, view.lead) : null, root);
    document.getElementById('main').append(view.section);
    view.store = makeStore(view, root, state, remember);
  }

  // A link to a view in a state, for texts.
  function link(name, state, text) {
    return html('a', {href: write(name, {...all.get(name).defaults, ...state})}, text);
  }

  function start() {
    views.title = document.title;
    document.getElementById('navigation').append(
      ...[...all.values()].map((view) => html('a', {href: `#${view.name}`}, view.title)));
    addEventListener('popstate', follow);  // Also where an address is typed or a link followed.
    follow();
    history.replaceState(null, '', pushed);
  }

  // Draws again what is seen: its size or the colors have changed.
  function redraw() {
    if (current) current.store.draw();
    for (const {root, store} of embedded) if (root.offsetParent) store.draw();
  }

  return {add, embed, link, start, redraw, all, write, read, get current() { return current; }};
})();
