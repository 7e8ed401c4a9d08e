'use strict';
{
  views.add({
    name: 'pooling',
    title: 'Pooling or dilation',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
