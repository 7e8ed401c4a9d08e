'use strict';
{
  views.add({
    name: 'image',
    title: 'On an image',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
