'use strict';
{
  views.add({
    name: 'live',
    title: 'Live',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
