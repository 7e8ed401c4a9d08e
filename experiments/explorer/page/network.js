'use strict';
{
  views.add({
    name: 'network',
    title: 'A network',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
