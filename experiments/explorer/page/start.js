'use strict';
// Light or dark, and the first view.
{
  const theme = (value) => {
    dom.set(document.documentElement, {'data-theme': value});
    views.redraw();
  };
  const kept = () => { try { return localStorage.getItem('theme'); } catch { return null; } };
  const keep = (value) => { try { localStorage.setItem('theme', value); } catch { /* a private window */ } };
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';
  document.getElementById('tools').append(controls.button('Light or dark', () => {
    const value = isDark() ? 'light' : 'dark';
    keep(value);
    theme(value);
  }, {class: 'theme'}));
  if (['light', 'dark'].includes(kept())) theme(kept());
  dark.addEventListener('change', views.redraw);
  addEventListener('resize', views.redraw);
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();  // The address holds the state.
    document.getElementById('main').focus();
  });
  views.start();
}
