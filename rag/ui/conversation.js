// Shows a conversation: a tree of parts, each with a key (k), classes (c), and either HTML (h, also in
// pieces) or parts of its own (n). Only what differs is touched.
const list = document.createElement('div');
list.className = 'turns';
const spoken = document.createElement('div');
spoken.className = 'spoken';
spoken.setAttribute('aria-live', 'polite');
element.replaceChildren(list, spoken);
const place = element.closest('#chat');

const patch = (parent, parts) => {
  const old = new Map([...parent.children].map(child => [child.dataset.k, child]));
  let next = parent.firstElementChild;
  for (const part of parts) {
    let child = old.get(part.k);
    if (!child) {
      child = document.createElement('div');
      child.dataset.k = part.k;
    }
    old.delete(part.k);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    if (child.className !== part.c) child.className = part.c;
    if (part.d) child.dir = part.d;
    if (part.n) patch(child, part.n);
    else {
      const html = [part.h].flat().join('');
      if (child.shown === html || child.querySelector('form.edit')) continue;
      child.innerHTML = child.shown = html;
      for (const mark of child.querySelectorAll('.cite')) {
        Object.assign(mark, {type: 'button', title: mark.getAttribute('aria-label')});
        Object.assign(mark.dataset, {on: 'open', do: 'cite', key: mark.dataset.cite});
      }
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
let turns = 0;
const show = () => {
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
  if (asked || other || atEnd) requestAnimationFrame(() => { place.scrollTop = place.scrollHeight; });
};
watch('value', show);
show();
