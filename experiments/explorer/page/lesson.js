'use strict';
// Ten chapters with figures of the other views in place, and a question at the end of each. The text is
// page/lesson.html; what has been answered stands in the address.
{
  const {html} = dom;

  views.add({
    name: 'lesson',
    title: 'The lesson',
    lead: 'How a network that labels every pixel comes to see far without giving up detail. Ten short chapters, with '
      + 'figures to try things out in and a question at the end of each.',
    // answers: a digit for each question, the number of the answer; 0 where none is chosen yet.
    defaults: {chapter: 0, answers: ''},
    create(root, store) {
      const text = html('div', {class: 'lesson-text'});
      text.innerHTML = data('lesson').text;  // Written by us, not by a reader.
      const chapters = [...text.querySelectorAll('section')];
      const questions = [];
      const links = chapters.map((section, i) => {
        const heading = section.querySelector('h2');
        heading.id = dom.id('chapter');
        heading.tabIndex = -1;
        dom.set(section, {'aria-labelledby': heading.id});
        heading.prepend(html('span', {class: 'chapter-number'}, `${i + 1} `));
        section.querySelectorAll('.figure').forEach(embed);
        section.querySelectorAll('.question').forEach((node) => questions.push(makeQuestion(node, questions.length, choose)));
        return html('a', {href: `#lesson?chapter=${i + 1}`, onclick: (event) => {
          event.preventDefault();
          store.set({chapter: i + 1});
        }}, heading.textContent);
      });
      const score = html('p', {class: 'lesson-score', role: 'status'});
      const again = controls.button('Clear the answers', () => store.set({answers: ''}));
      const contents = html('nav', {class: 'lesson-contents', 'aria-label': 'Chapters'},
        html('ol', {}, links.map((link) => html('li', {}, link))), score);
      root.append(html('div', {class: 'lesson'}, contents, html('div', {}, text, again)));

      function choose(question, answer) {
        const digits = [...answersOf(store.state)];
        digits[question] = answer;
        store.set({answers: digits.join('').replace(/0+$/, '')});
      }

      function answersOf({answers}) {
        return questions.map(({count}, i) => (Number(answers[i]) <= count ? Number(answers[i]) : 0));
      }

      // The chapter that is being read, in the list of them.
      const seen = new Set();
      const observer = new IntersectionObserver((entries) => {
        for (const {target, isIntersecting} of entries) seen[isIntersecting ? 'add' : 'delete'](target);
        const reading = chapters.find((section) => seen.has(section));
        chapters.forEach((section, i) => dom.set(links[i], {'aria-current': section === reading ? 'true' : null}));
      }, {rootMargin: '-20% 0px -60% 0px'});
      chapters.forEach((section) => observer.observe(section));
      let shown = 0;
      return {
        update(state) {
          const answers = answersOf(state);
          questions.forEach((question, i) => question.show(answers[i]));
          const given = answers.filter(Boolean).length;
          const right = answers.filter((answer, i) => answer === questions[i].right).length;
          score.textContent = given ? `${right} of ${given} answered right${given === questions.length ? '.' : ` (${questions.length} in all).`}`
            : `${questions.length} questions`;
          again.hidden = !given;
          const chapter = Math.min(Math.max(Math.round(state.chapter), 0), chapters.length);
          if (chapter && chapter !== shown) go(chapter);
          shown = chapter;
        },
      };

      function go(chapter) {
        const heading = chapters[chapter - 1].querySelector('h2');
        heading.scrollIntoView();
        heading.focus({preventScroll: true});
      }
    },
  });

  // A link to a view becomes the view itself, when it comes near.
  function embed(node) {
    const link = node.querySelector('a'), address = link.getAttribute('href');
    const {name, state} = views.read(address);
    const place = html('div', {class: 'embedded'});
    const caption = html('p', {class: 'embedded-head'}, html('b', {}, link.textContent),
      html('a', {href: address}, 'Open it by itself'));
    link.remove();
    node.classList.add('note');
    const frame = html('div', {class: 'embedding'}, caption);
    node.replaceWith(frame);
    frame.append(node, place);
    let store = null;
    new IntersectionObserver(([{isIntersecting}]) => {
      if (!isIntersecting) { store?.view.hide?.(); return; }
      if (store) { store.view.show?.(); return; }
      store = views.embed(name, place, state);
      if (node.dataset.part) showPart(place, Number(node.dataset.part));
      place.classList.add('filled');
      store.view.show?.();
    }, {rootMargin: '400px 0px'}).observe(frame);
  }

  // Hides what is not of this part of a view; parts begin at headings.
  function showPart(place, wanted) {
    let part = 1;
    for (const child of place.children) {
      const heading = child.tagName === 'H2';
      if (heading) part++;
      child.hidden = part !== wanted || heading;
    }
  }

  // From <p>question</p><dl>(<dt>answer</dt><dd>what is said of it</dd>)...</dl> to radio buttons.
  function makeQuestion(node, index, choose) {
    const name = dom.id('question'), right = Number(node.dataset.right);
    const said = html('p', {class: 'said', role: 'status'});
    const answers = [...node.querySelectorAll('dt')].map((answer, i) => {
      const input = html('input', {type: 'radio', name, value: i + 1, onchange: () => choose(index, i + 1)});
      const label = html('label', {}, input, html('span', {}, ...answer.childNodes));
      return {input, label, comment: answer.nextElementSibling};
    });
    const legend = html('legend', {}, html('span', {class: 'question-number'}, `Question ${index + 1}`), ...node.querySelector('p').childNodes);
    node.replaceChildren(html('fieldset', {}, legend, answers.map(({label}) => label)), said);
    return {
      right, count: answers.length,
      show(chosen) {
        answers.forEach(({input, label}, i) => {
          input.checked = i + 1 === chosen;
          label.className = !input.checked ? '' : chosen === right ? 'right' : 'wrong';
        });
        const key = String(chosen);
        if (said.dataset.chosen === key) return;
        said.dataset.chosen = key;
        said.replaceChildren(...(chosen ? [html('b', {class: chosen === right ? 'right' : 'wrong'}, chosen === right ? 'Right. ' : 'Not quite. '),
          ...[...answers[chosen - 1].comment.childNodes].map((child) => child.cloneNode(true))] : []));
      },
    };
  }
}
