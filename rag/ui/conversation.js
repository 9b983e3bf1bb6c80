// Shows a conversation: a tree of parts, each with a key (k), classes (c), and either HTML (h) with
// marks (m), or parts of its own (n) with the titles of their marks (t); or else this as JSON (j).
// Only what differs is touched.
const list = document.createElement('div');
list.className = 'turns';
const spoken = document.createElement('div');
spoken.className = 'spoken';
spoken.setAttribute('aria-live', 'polite');
element.replaceChildren(list, spoken);
const place = element.closest('#chat');

// A mark behind each checked sentence of a block. A sentence may run over bold, links and lines:
// each of its texts becomes an element, which lights up. From the last to the first, so that what is
// before stays where it is.
const mark = (block, marks, titles) => {
  const texts = [], walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  for (let place = 0; walker.nextNode(); place += walker.currentNode.length) {
    texts.push([walker.currentNode, place]);
  }
  for (const line of marks.split('\n').reverse()) {
    const [number, start, end, which, ...more] = line.split(' ');
    const [kind, sign, title] = titles[which];
    const cite = `${block.parentElement.dataset.k}:${number}`;
    let last = null;
    for (const [text, place] of texts) {
      const from = Math.max(start - place, 0), to = Math.min(end - place, text.length);
      if (from >= to || /^\s*\n\s*$/.test(text.data.slice(from, to))) continue;
      last = document.createElement('span');
      last.className = `sentence ${kind}`;
      last.dataset.cite = cite;
      const range = new Range();
      range.setStart(text, from);
      range.setEnd(text, to);
      range.surroundContents(last);
    }
    if (!last) continue;
    const button = document.createElement('button');
    const name = more.length ? `${title}. ${more.join(' ')}` : title;
    Object.assign(button, {type: 'button', className: `cite ${kind}`, textContent: sign, title: name});
    Object.assign(button.dataset, {on: 'open', do: 'cite', key: cite, cite});
    button.setAttribute('aria-label', name);
    (last.closest('a, .address') ?? last.closest('code') ?? last).after(button);
  }
};

const patch = (parent, parts, titles) => {
  const old = new Map([...parent.children].map(child => [child.dataset.k, child]));
  let next = parent.firstElementChild;
  for (let part of parts) {
    let child = old.get(part.k);
    if (!child) {
      child = document.createElement('div');
      child.dataset.k = part.k;
    }
    old.delete(part.k);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    if (part.j && child.made === part.j) continue;
    child.made = part.j;
    if (part.j) part = JSON.parse(part.j);
    if (child.className !== part.c) child.className = part.c;
    if ('m' in part) child.dir = 'auto';  // it may be written from right to left
    if (part.n) patch(child, part.n, part.t);
    else {
      const shown = [part.h, part.m].join('\n');
      if (child.shown === shown || child.querySelector('form.edit')) continue;
      child.shown = shown;
      child.innerHTML = part.h;
      if (part.m) mark(child, part.m, titles);
    }
  }
  old.forEach(child => child.remove());
};

// A screen reader hears the answer by sentences: what is whole of it is added to a region that is
// read aloud, each sentence once.
const heard = new Map();
const speak = () => {
  for (const answer of list.querySelectorAll('.answer')) {
    const writing = answer.classList.contains('writing');
    if (!writing && !heard.has(answer.dataset.k)) continue;
    const copy = answer.cloneNode(true);
    copy.querySelectorAll('.cite, .address').forEach(part => part.remove());
    const text = [...copy.querySelectorAll('.said')].map(block => block.textContent).join('\n');
    const ends = [...text.matchAll(/[.!?]["”’)\]]*\s|[。！？؟]|\n/g)];
    const whole = writing ? (ends.length ? ends.at(-1).index + ends.at(-1)[0].length : 0) : text.length;
    const known = heard.get(answer.dataset.k) ?? 0;
    if (writing) heard.set(answer.dataset.k, Math.max(known, whole));
    else heard.delete(answer.dataset.k);
    const said = text.slice(known, whole).trim();
    if (!said) continue;
    const line = document.createElement('p');
    line.textContent = said;
    spoken.append(line);
    while (spoken.children.length > 8) spoken.firstElementChild.remove();
  }
};

// The end stays in sight while the answer grows, unless the reader has gone up to read.
let turns = 0, ended = '';
const show = () => {
  place.heard = performance.now();
  const parts = props.value?.parts ?? [];
  const asked = parts.length > turns && turns > 0;
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 100;
  const other = list.dataset.key !== props.value?.key;
  list.dataset.key = props.value?.key ?? '';
  // What is open beside it belongs to the conversation before.
  if (other) document.querySelector('#panel [data-do="close"]')?.click();
  patch(list, parts);
  speak();
  turns = parts.length;
  // The box and the list are the server's to change, by an event of their own.
  const now = props.value?.ended ?? '';
  if (now && now !== ended) trigger('settled', {});
  ended = now || ended;
  if (asked || other || atEnd) requestAnimationFrame(() => { place.scrollTop = place.scrollHeight; });
};
watch('value', show);
show();
