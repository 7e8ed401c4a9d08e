'use strict';
{
  views.add({
    name: 'growth',
    title: 'Growth',
    create(root) {
      root.append(dom.html('p', {}, 'Soon.'));
      return {update() {}};
    },
  });
}
