'use strict';
{
  views.add({
    name: 'lesson',
    title: 'The lesson',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
