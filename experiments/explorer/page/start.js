'use strict';
// Light or dark, and the first view.
{
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const kept = () => { try { return localStorage.getItem('theme'); } catch { return null; } };
  const keep = (value) => { try { localStorage.setItem('theme', value); } catch { /* a private window */ } };
  let chosen = kept();
  const theme = () => (['light', 'dark'].includes(chosen) ? chosen : dark.matches ? 'dark' : 'light');
  const show = () => {
    dom.set(document.documentElement, {'data-theme': theme()});
    views.redraw();
  };
  document.getElementById('tools').append(controls.button('Light or dark', () => {
    chosen = theme() === 'dark' ? 'light' : 'dark';
    keep(chosen);
    show();
  }, {class: 'theme'}));
  show();
  dark.addEventListener('change', show);
  addEventListener('resize', views.redraw);
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();  // The address holds the state.
    document.getElementById('main').focus();
  });
  views.start();
}
